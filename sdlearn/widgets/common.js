// What the controls drawn by scripts share; it stands before each of them.
const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name in element && name !== 'list' ? (element[name] = value) : element.setAttribute(name, value);
  element.append(...children);
  return element;
};

// Sends to Python, and asks it every few seconds while it works whether it is there: a restarted kernel never says that it is gone.
function speaking(model, gone) {
  const BEAT = 3000, LOST = 4;
  let missed = 0;
  const send = (message) => { try { model.send(message); } catch { gone(); } };
  model.on('msg:custom', () => { missed = 0; });
  const timer = setInterval(() => {
    if (!model.get('busy')) { missed = 0; return; }
    missed += 1;
    if (missed > LOST) gone(); else send({ do: 'alive' });
  }, BEAT);
  return [send, () => clearInterval(timer)];
}
const GONE = 'Python does not answer. If it was stopped or restarted: run this cell again (Shift+Enter), and this control is back.';
