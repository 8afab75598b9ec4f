// The law of the speed-up: brings each figure of the class `law` to life. Trials are equally long, a share p = 1 / N of
// all configurations reaches the target, and K workers are (1 - (1 - p)^K) / p times as fast as one.
"use strict";

(() => {
  const MOST = 512; // workers
  const FIRST = { good: 20, workers: 8 };

  const speedUp = (good, workers) => (1 - (1 - 1 / good) ** workers) * good;

  // A slider's values: whole numbers, evenly along a logarithmic axis.
  const STEPS = 54; // six from one power of two to the next
  const between = (least, most) =>
    Array.from({ length: STEPS + 1 }, (_, i) => Math.round(least * (most / least) ** (i / STEPS)));
  const VALUES = { good: between(2, 1000), workers: between(1, MOST) };

  // The chart, in units of 1 / 360 of its width: as large as the drawn figures, and its text, too.
  const [LEFT, RIGHT, TOP, BOTTOM] = [40, 350, 10, 210];
  const share = (value) => Math.log(value) / Math.log(MOST);
  const x = (workers) => LEFT + (RIGHT - LEFT) * share(workers);
  const y = (value) => BOTTOM - (BOTTOM - TOP) * share(value);
  const curve = (height) => {
    const points = Array.from({ length: 101 }, (_, i) => MOST ** (i / 100)).map((k) => `${x(k)} ${y(height(k))}`);
    return `M${points.join("L")}`;
  };

  const TICKS = Array.from({ length: 10 }, (_, i) => 2 ** i);
  const GRID = TICKS.map((at) => `M${x(at)} ${TOP}V${BOTTOM}M${LEFT} ${y(at)}H${RIGHT}`).join("");
  const NUMBERS = TICKS.map(
    (at) => `
      <text x="${x(at)}" y="${BOTTOM + 14}">${at}</text>
      <text class="law-y" x="${LEFT - 5}" y="${y(at) + 4}">${at}</text>`,
  ).join("");
  const CHART = `
    <svg class="law-chart" viewBox="0 0 360 244" role="img">
      <path class="law-grid" d="${GRID}" />${NUMBERS}
      <text x="${(LEFT + RIGHT) / 2}" y="${BOTTOM + 31}">${_("workers")}</text>
      <text transform="translate(11 ${(TOP + BOTTOM) / 2}) rotate(-90)">${_("speed-up")}</text>
      <path class="law-ideal" d="${curve((k) => k)}" />
      <text class="law-y" x="${x(64) - 6}" y="${y(64)}">${_("ideal")}</text>
      <path class="law-curve" /><circle r="5" />
    </svg>`;
  const slider = (name) => `<input type="range" name="${name}" max="${STEPS}" />`;
  const CONTROLS = `
    <div class="live-results">
      <p><b data-law="speedUp"></b> <span>${_("speed-up")}</span> <small data-law="ideal"></small></p>
      <p><b data-law="efficiency"></b> <span>${_("efficiency")}</span> <small data-law="ratio"></small></p>
    </div>
    <div class="live-settings">
      <label><span data-law="good"></span>${slider("good")}</label>
      <label><span>${_("Workers")} <b aria-hidden="true" data-law="workers"></b></span>${slider("workers")}</label>
    </div>`;

  class Law {
    constructor(figure) {
      this.state = { ...FIRST };
      this.app = live.app(_("Speed-up explorer"), CHART + CONTROLS);
      for (const name of ["good", "workers"]) this.find(`[name=${name}]`).value = VALUES[name].indexOf(FIRST[name]);
      this.app.addEventListener("input", ({ target }) => {
        this.state[target.name] = VALUES[target.name][target.value];
        this.draw();
        live.say(this.app, () => this.summary());
      });
      this.app.addEventListener("keydown", ({ key, target }) => this.passEqual(target, key));
      this.draw();
      live.show(figure, this.app);
    }

    // Several steps of a slider may be the same small number: an arrow key, whose own step is still to come, passes all.
    passEqual(slider, key) {
      const values = VALUES[slider.name];
      if (["ArrowRight", "ArrowUp"].includes(key)) slider.value = values.lastIndexOf(values[slider.value]);
      if (["ArrowLeft", "ArrowDown"].includes(key)) slider.value = values.indexOf(values[slider.value]);
    }

    find(selector) {
      return this.app.querySelector(selector);
    }

    draw() {
      const { good, workers } = this.state;
      this.find(".law-curve").setAttribute("d", curve((k) => speedUp(good, k)));
      this.find("circle").setAttribute("cx", x(workers));
      this.find("circle").setAttribute("cy", y(speedUp(good, workers)));
      this.find(".law-chart").setAttribute("aria-label", this.summary());
      for (const [name, text] of Object.entries(this.words())) this.find(`[data-law=${name}]`).textContent = text;
      this.find("[name=good]").setAttribute("aria-valuetext", good);
      this.find("[name=workers]").setAttribute("aria-valuetext", workers);
    }

    // What the numbers are, as words.
    words() {
      const { good, workers } = this.state;
      const ratio = speedUp(good, workers);
      const percent = ((100 * ratio) / workers).toLocaleString("en", { maximumSignificantDigits: 2 });
      return {
        good: filled(_("One configuration in {number} is good enough"), { number: good.toLocaleString("en") }),
        workers,
        speedUp: ratio.toFixed(1),
        ideal: filled(_("ideal: {number}"), { number: workers }),
        efficiency: filled(_("{number}\u00a0%"), { number: percent }),
        ratio: `${ratio.toFixed(1)} / ${workers}`,
      };
    }

    summary() {
      const sentence = _("{good}. Workers: {workers}. Speed-up: {speedUp}, {ideal}. Efficiency: {efficiency}.");
      return filled(sentence, this.words());
    }
  }

  document.querySelectorAll("figure.law").forEach((figure) => new Law(figure));
})();
