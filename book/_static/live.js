// What all figures share that scripts bring to life; tools/site/explorer.py puts them on their pages. Words stand in
// _("…"), Sphinx's own function: that module finds them, and gives their translations.
"use strict";

// A sentence with values in the places of {names}.
const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

const live = {
  // What takes the image's place: a group with a name, of this HTML.
  app(name, html) {
    const app = document.createElement("div");
    app.className = "live-app";
    app.setAttribute("role", "group");
    app.setAttribute("aria-label", name);
    app.innerHTML = `${html}<p class="live-status" role="status"></p>`;
    return app;
  },

  // The figure's own image stays, for print.
  show(figure, app) {
    figure.prepend(app);
    figure.classList.add("live-figure");
  },

  // For those who do not see the charts: what they show, once the hand has been off the control for a moment.
  say(app, words) {
    clearTimeout(app.saying);
    if (!app.contains(document.activeElement)) return;
    app.saying = setTimeout(() => (app.querySelector(".live-status").textContent = words()), 500);
  },
};
