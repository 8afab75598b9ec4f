// The scheduling explorer: brings each figure of the class `explorer` to life. The figure's own image stays, for print
// and for pages without scripts. The arithmetic is in schedule.js, a panel's chart in explorer-panel.js; the durations
// that were recorded, by this book and by others, come with the page (tools/site/explorer.py).
"use strict";

(() => {
  const SECONDS = 10; // that a whole run takes to play
  const STEPS = 500; // of the time's slider
  const SMALL = { workers: 4, trials: 24, data: "cnn", spread: "recorded", seed: 0 };
  const WHOLE = { ...SMALL, workers: 8, trials: 64 };

  const DATA = {
    cnn: _("this book's convolutional networks"),
    nasbench201_cifar10: "NAS-Bench-201: CIFAR-10",
    fcnet_slice_localization: "FCNet: slice localization",
    hpobench_phoneme: "HPOBench: phoneme",
  };
  const NAMES = {
    constant: _("constant"),
    uniform: _("uniform"),
    recorded: _("recorded"),
    exponential: _("exponential"),
    "log-normal": _("log-normal"),
  };

  const { cnn: ours, ...others } = JSON.parse(document.getElementById("recorded-durations").textContent);
  const groups = { cnn: [...ours].sort((a, b) => a - b).map((seconds) => [1, seconds]), ...others };
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const { seconds } = ExplorerPanel;

  const LABELS = { time: _("Time"), back: _("Step back") };
  const TIME = `
    <div class="explorer-axis" aria-hidden="true"></div>
    <input class="explorer-time" type="range" min="0" max="${STEPS}" aria-label="${LABELS.time}" />
    <div class="explorer-buttons">
      <button type="button" data-do="play">
        <svg viewBox="0 0 10 10" aria-hidden="true"><path /></svg><span>${_("Play")}</span>
      </button>
      <button type="button" data-do="back" aria-label="${LABELS.back}">${_("Back")}</button>
      <button type="button" data-do="step">${_("Step")}</button>
      <button type="button" data-do="draw">${_("Other trials")}</button>
    </div>`;
  const OPTIONS = Object.entries(DATA).map(([table, name]) => `<option value="${table}">${name}</option>`);
  const SETTINGS = `
    <div class="live-results">
      <p><b data-ratio="here"></b> <span>${_("times faster without waiting")}</span> <small data-from="here"></small></p>
      <p><b data-ratio="formula"></b> <span>${_("predicted for trials without end")}</span>
        <small data-from="formula"></small></p>
    </div>
    <div class="live-settings">
      <label>${_("Workers")} <input type="range" name="workers" min="1" max="64" /><b aria-hidden="true"></b></label>
      <label>${_("Trials")} <input type="range" name="trials" min="8" max="500" /><b aria-hidden="true"></b></label>
      <label class="explorer-data"><span>${_("Data")}</span> <select name="data">
        ${OPTIONS.join("")}
      </select></label>
      <fieldset><legend>${_("Spread of their durations")}</legend></fieldset>
    </div>`;

  class Explorer {
    constructor(figure, number) {
      this.figure = figure;
      this.small = figure.classList.contains("explorer-small");
      this.state = { ...(this.small ? SMALL : WHOLE) };
      this.compared = [new ExplorerPanel("synchronous"), new ExplorerPanel("asynchronous")];
      this.panels = this.small ? [new ExplorerPanel("alone"), ...this.compared] : this.compared;
      this.app = live.app(_("Scheduling explorer"), TIME + (this.small ? "" : SETTINGS));
      this.app.prepend(...this.panels.map((panel) => panel.element));
      if (!this.small) addSpreads(this.find("fieldset"), number);
      this.slider = this.find(".explorer-time");
      this.listen();
      live.show(figure, this.app);
      this.read();
      this.compute();
      if (this.small && !calm.matches) whenSeen(this.app, () => this.play());
    }

    find(selector) {
      return this.app.querySelector(selector);
    }

    // Everything that follows from the data.
    read() {
      this.spreads = planning.spreads(groups[this.state.data]);
      if (!this.small) drawSpreads(this.find("fieldset"), this.spreads);
    }

    // Everything that follows from the settings; at first it is shown as it ends.
    compute() {
      const { workers, trials, data, spread, seed } = this.state;
      const first = data === "cnn" && spread === "recorded" ? ours : [];
      this.durations = planning.draw(this.spreads[spread], trials, seed, first);
      this.panels.forEach((panel) => panel.schedule(this.durations, workers));
      this.until = Math.max(...this.compared.map((panel) => panel.end));
      this.moments = [0, ...this.compared.flatMap(({ plan }) => plan.map((trial) => trial.end))].sort((a, b) => a - b);
      this.panels.forEach((panel) => panel.draw(this.until));
      drawAxis(this.find(".explorer-axis"), this.until);
      this.formula = planning.predicted(this.spreads[spread], workers);
      if (!this.small) this.showSettings();
      this.pause();
      this.seek(this.until);
    }

    seek(time) {
      this.time = Math.min(this.until, Math.max(0, time));
      this.panels.forEach((panel) => panel.show(this.time));
      this.slider.value = (this.time / this.until) * STEPS;
      const moment = { time: seconds(this.time), all: seconds(this.until) };
      this.slider.setAttribute("aria-valuetext", filled(_("{time} of {all}"), moment));
    }

    play() {
      if (this.playing) return;
      if (this.time >= this.until) this.seek(0);
      this.showPlaying(true);
      let before = performance.now();
      const next = (now) => {
        const passed = Math.max(0, Math.min(100, now - before)) / 1000;
        before = now;
        this.seek(this.time + (passed / SECONDS) * this.until);
        if (this.time < this.until) this.frame = requestAnimationFrame(next);
        else this.pause();
      };
      this.frame = requestAnimationFrame(next);
    }

    pause() {
      cancelAnimationFrame(this.frame);
      this.showPlaying(false);
      this.say();
    }

    showPlaying(playing) {
      this.playing = playing;
      this.find("[data-do=play] span").textContent = playing ? _("Pause") : _("Play");
      this.find("[data-do=play] path").setAttribute("d", playing ? "M1 0h3v10h-3zM6 0h3v10h-3z" : "M1 0v10l9-5z");
    }

    // To the next or the last moment at which a trial ends.
    step(direction) {
      const others = this.moments.filter((moment) => direction * (moment - this.time) > 0);
      this.pause();
      this.seek((direction > 0 ? others[0] : others.at(-1)) ?? this.time);
    }

    say() {
      live.say(this.app, () => {
        const said = this.panels.map((panel) => panel.summary(this.time)).join(" ");
        return filled(_("At {time}: {said}"), { time: seconds(this.time), said });
      });
    }

    showSettings() {
      for (const name of ["workers", "trials"]) {
        const input = this.find(`[name=${name}]`);
        input.value = this.state[name];
        input.nextElementSibling.textContent = this.state[name];
      }
      this.find(`[value=${this.state.spread}]`).checked = true;
      const [waiting, free] = this.compared.map((panel) => panel.end);
      const { longest, average, ratio } = this.formula;
      const digits = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
      const exact = (value) => filled(_("{number}\u00a0s"), { number: value.toLocaleString("en", digits) });
      const text = {
        "[data-ratio=here]": (waiting / free).toFixed(2),
        "[data-from=here]": filled(_("these trials: {waiting} / {free}"), {
          waiting: seconds(waiting),
          free: seconds(free),
        }),
        "[data-ratio=formula]": ratio.toFixed(2),
        "[data-from=formula]": filled(_("longest of {number}: {longest} / average: {average}"), {
          number: this.state.workers,
          longest: exact(longest),
          average: exact(average),
        }),
      };
      for (const [selector, words] of Object.entries(text)) this.find(selector).textContent = words;
    }

    listen() {
      const actions = {
        play: () => (this.playing ? this.pause() : this.play()),
        back: () => this.step(-1),
        step: () => this.step(1),
        draw: () => this.set("seed", this.state.seed + 1),
      };
      this.app.addEventListener("click", ({ target }) => actions[target.closest("[data-do]")?.dataset.do]?.());
      this.app.addEventListener("input", ({ target }) => {
        if (target === this.slider) this.goTo(this.slider.value / STEPS);
        else if (target.type === "radio") this.set("spread", target.value);
        else this.set(target.name, target.name === "data" ? target.value : Number(target.value));
      });
      for (const { chart } of this.panels) this.dragOn(chart);
    }

    set(name, value) {
      this.state[name] = value;
      if (name === "data") this.read();
      this.compute();
    }

    goTo(share) {
      this.pause();
      this.seek(share * this.until);
    }

    // By mouse or touch, time is also dragged on the charts themselves.
    dragOn(chart) {
      const drag = (event) => {
        const { left, width } = chart.getBoundingClientRect();
        this.goTo((event.clientX - left) / width);
      };
      chart.addEventListener("pointerdown", (event) => {
        chart.setPointerCapture(event.pointerId);
        drag(event);
      });
      chart.addEventListener("pointermove", (event) => chart.hasPointerCapture(event.pointerId) && drag(event));
    }
  }

  function drawAxis(axis, until) {
    const power = 10 ** Math.floor(Math.log10(until / 5));
    const tick = power * [1, 2, 5, 10].find((factor) => factor * power >= until / 5);
    axis.replaceChildren();
    for (let at = 0; at < until; at += tick) {
      const label = document.createElement("span");
      label.textContent = at ? at.toLocaleString("en") : seconds(0);
      // Half of a number stands to the right of its place, and on a phone the axis is only some 45 figures long.
      if (at + 0.012 * label.textContent.length * until > until) break;
      label.style.left = `${(100 * at) / until}%`;
      axis.append(label);
    }
  }

  // A radio button for each spread, with a picture of it.
  function addSpreads(fieldset, number) {
    for (const [name, label] of Object.entries(NAMES)) {
      fieldset.insertAdjacentHTML(
        "beforeend",
        `<label><input type="radio" name="spread-${number}" value="${name}" />
          <svg viewBox="0 0 59 10" preserveAspectRatio="none" aria-hidden="true"><path /></svg>
          <span>${label}</span></label>`,
      );
    }
  }

  // The pictures: twenty trials, the shortest first, all to one scale.
  function drawSpreads(fieldset, spreads) {
    const shares = Array.from({ length: 20 }, (_, i) => (i + 0.5) / 20);
    const trials = Object.values(spreads).map(({ quantile }) => shares.map(quantile));
    const longest = Math.max(...trials.flat());
    fieldset.querySelectorAll("path").forEach((path, spread) => {
      const bars = trials[spread].map((seconds, i) => `M${3 * i} 10h2v${(-10 * seconds) / longest}h-2z`);
      path.setAttribute("d", bars.join(""));
    });
  }

  function whenSeen(element, action) {
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (!entry.isIntersecting) return;
        observer.disconnect();
        action();
      },
      { threshold: 0.6 },
    );
    observer.observe(element);
  }

  document.querySelectorAll("figure.explorer").forEach((figure, number) => {
    figure.explorer = new Explorer(figure, number); // for tests, and for the curious
  });
})();
