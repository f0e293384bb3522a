/** Service worker: the network first, what was kept where there is none. */
const SHELF = 'tiny-sd';
self.addEventListener('install', (event) => event.waitUntil(caches.open(SHELF).then((shelf) =>
  shelf.addAll(['./', 'index.html', 'live/page.js', 'live/style.css']))));
self.addEventListener('fetch', (event) => {
  if (event.request.method !== 'GET') return;
  event.respondWith(fetch(event.request).catch(async () =>
    (await caches.match(event.request, { cacheName: SHELF })) ?? Response.error()));
});
