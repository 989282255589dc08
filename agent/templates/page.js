// Counts down by the server's clock, and replaces the parts of the page that have changed: where the
// reader is, what has the focus and what is selected stay as they are.
'use strict';

(() => {
  const EVERY = 5000;
  const PATIENCE = 10000;

  const pause = document.getElementById('pause');
  const connection = document.getElementById('connection');
  let paused = false;
  // The server's clock less the time since the page was opened, which no change of the browser's clock moves.
  let ahead = 0;

  const shownAt = (page) => Number(page.getElementById('now').dataset.now);
  const serverNow = () => performance.now() + ahead;

  const length = (seconds) => {
    const [h, m, s] = [Math.trunc(seconds / 3600), Math.trunc(seconds / 60) % 60, seconds % 60];
    return (h ? `${h}h` : '') + (h || m ? `${m}m` : '') + `${s}s`;
  };

  const relative = (until) => {
    const seconds = Math.trunc((until - serverNow()) / 1000);
    if (seconds === 0) return 'now';
    return seconds > 0 ? `in ${length(seconds)}` : `${length(-seconds)} ago`;
  };

  const tick = (page) => {
    for (const countdown of page.querySelectorAll('[data-until]')) {
      const text = relative(Number(countdown.dataset.until));
      if (countdown.textContent !== text) countdown.textContent = text;
    }
  };

  const tell = (text) => {
    // A status is read out when it changes, and only then.
    if (connection.textContent !== text) connection.textContent = text;
  };

  const show = (fresh) => {
    tick(document);
    tick(fresh);
    for (const part of fresh.querySelectorAll('[data-live]')) {
      const old = document.getElementById(part.id);
      if (old && old.outerHTML !== part.outerHTML) old.replaceWith(document.adoptNode(part));
    }
  };

  const refresh = () => {
    if (paused || document.hidden || !getSelection().isCollapsed) {
      setTimeout(refresh, EVERY);
      return;
    }
    // A document that is requested runs no scripts, and nothing has to be parsed from text.
    const request = new XMLHttpRequest();
    const asked = performance.now();
    request.open('GET', '/');
    request.responseType = 'document';
    request.timeout = PATIENCE;
    request.onloadend = () => {
      const fresh = request.status === 200 ? request.responseXML : null;
      if (fresh && fresh.getElementById('now')) {
        ahead = shownAt(fresh) - (asked + performance.now()) / 2;
        tell('');
        if (!paused) show(fresh);
      } else {
        tell('The agent does not answer; what is shown may have changed. Trying again.');
      }
      setTimeout(refresh, EVERY);
    };
    request.send();
  };

  const [opened] = performance.getEntriesByType('navigation');
  ahead = shownAt(document) - (opened ? opened.responseStart : performance.now());

  pause.hidden = false;
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    if (!paused) tick(document);
  });

  tick(document);
  setInterval(() => paused || document.hidden || tick(document), 250);
  setTimeout(refresh, EVERY);
})();
