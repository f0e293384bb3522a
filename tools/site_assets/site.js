// Moves the controls of a page through pictures that are already there. Runs from a file, too: nothing is asked of a server.
(() => {
  if (location.protocol === 'file:' && typeof DOCUMENTATION_OPTIONS !== 'undefined') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;  // it would read other files

  const wire = (scrubber) => {
    const axes = [...scrubber.querySelectorAll('.sd-axis')], frames = scrubber.querySelectorAll('.sd-frames > img');
    const show = () => {
      let at = 0;
      for (const axis of axes) {
        const input = axis.querySelector('input[type=range], input:checked'), place = Number(input.value);
        at = at * Number(axis.dataset.size) + place;
        if (input.type === 'range') {
          const label = axis.querySelectorAll('option')[place].label;
          input.setAttribute('aria-valuetext', label);
          axis.querySelector('output').textContent = label;
        }
      }
      frames.forEach((frame, i) => { frame.hidden = i !== at; });
    };
    scrubber.addEventListener('input', show);
    show();  // a browser may have kept a slider's place over a reload
    // the pictures behind the first are fetched shortly before somebody can reach the slider
    new IntersectionObserver((seen, watch) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      frames.forEach((frame) => { frame.loading = 'eager'; });
    }, { rootMargin: '1500px' }).observe(scrubber);
  };

  // what is wider than the page scrolls by itself, and must then be reached by the keyboard
  const reach = () => document.querySelectorAll('pre, .math.block, .table-wrapper').forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; else box.removeAttribute('tabindex');
  });

  const start = () => {
    document.querySelectorAll('.sd-scrubber').forEach(wire);
    reach();
    addEventListener('resize', reach);
    addEventListener('load', reach);
  };
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', start); else start();
})();
