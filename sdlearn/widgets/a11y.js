// Names and keys that ipywidgets leaves out: slider handles and icon buttons get a name, arrow keys stay with the control
// (JupyterLab would move to the next cell), toggles say whether they are pressed, status lines are read aloud.
(() => {
  if (window.__sdlearnA11y) return;
  window.__sdlearnA11y = true;
  const set = (element, name, value) => { if (element && value && element.getAttribute(name) !== value) element.setAttribute(name, value); };
  const all = (selector, act) => document.querySelectorAll(selector).forEach(act);
  const keep = (event) => { if (event.key !== 'Escape' && event.key !== 'Tab') event.stopPropagation(); };
  // Notebook 7 takes its shortcuts before the control hears the key (JupyterLab after it). Lumino, on which both stand, passes by
  // an element with this attribute; so it is set anew for each key. Escape, Tab, Shift+Enter and the like stay with the notebook.
  const takes = ({ target, key, shiftKey, ctrlKey, metaKey, altKey }) => {
    if (key === 'Escape' || key === 'Tab' || altKey || (key === 'Enter' && shiftKey)) return false;
    if ((ctrlKey || metaKey) && key !== 'z') return false;
    return target.closest('.sd-panel') || !target.matches('button') || key === 'Enter' || key === ' ';
  };
  window.addEventListener('keydown', (event) => {
    if (event.target.closest?.('.jupyter-widgets')) event.target.toggleAttribute('data-lm-suppress-shortcuts', Boolean(takes(event)));
  }, true);
  const icons = { 'fa-play': 'Play', 'fa-pause': 'Pause', 'fa-stop': 'Stop and go to the start', 'fa-retweet': 'Repeat' };
  const label = (widget) => widget.querySelector('.widget-label')?.textContent?.trim();

  const mend = () => {
    all('.widget-slider, .widget-hslider, .widget-vslider', (w) => {
      const name = label(w), readout = w.querySelector('.widget-readout');
      const handles = w.querySelectorAll('.noUi-handle');
      handles.forEach((handle) => set(handle, 'aria-label', name));
      if (readout && handles.length === 1) set(handles[0], 'aria-valuetext', readout.textContent);  // "t = 981", not its place in the list
      if (readout?.contentEditable === 'true') { set(readout, 'role', 'textbox'); set(readout, 'aria-label', name && name + ' value'); }
    });
    all('.widget-dropdown select, .widget-select select, .widget-radio input, .sd-control input[type=range]', (input) => {
      if (!input.dataset.sdKeeps) { input.dataset.sdKeeps = '1'; input.addEventListener('keydown', keep); }
    });
    all('.jupyter-widgets button', (button) => {
      const icon = button.querySelector('i');
      if (icon && !button.textContent.trim()) for (const name in icons) if (icon.classList.contains(name)) set(button, 'aria-label', icons[name]);
    });
    all('.widget-toggle-buttons', (w) => { set(w, 'role', 'group'); set(w, 'aria-label', label(w)); });
    all('.widget-toggle-button', (button) => set(button, 'aria-pressed', String(button.classList.contains('mod-active'))));
    // a saved page has no control in it, and ipywidgets speaks of a "model"; in a course about models that misleads
    all('.jupyter-widgets', (w) => {
      if (w.childElementCount === 0 && /^Error displaying widget/.test(w.textContent)) w.textContent = 'This control needs Python: run this cell again (Shift+Enter), and it is back.';
    });
    all('.sd-status', (line) => set(line, 'role', 'status'));
    all('.widget-hprogress', (w) => {
      const bar = w.querySelector('.progress-bar'), track = w.querySelector('.progress');
      set(track, 'role', 'progressbar'); set(track, 'aria-label', label(w) || 'progress');
      if (bar) set(track, 'aria-valuenow', String(Math.round(parseFloat(bar.style.width) || 0)));
    });
  };
  let due = false;
  new MutationObserver(() => {
    if (!due) { due = true; requestAnimationFrame(() => { due = false; mend(); }); }
  }).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ['class', 'aria-valuetext'] });
  mend();
})();
