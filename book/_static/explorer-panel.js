// One panel of the scheduling explorer: some workers, how far they are, and their chart. See explorer.js.
"use strict";

class ExplorerPanel {
  static HTML = `
    <p class="explorer-title"><b></b> <span></span></p>
    <p class="explorer-numbers"><span class="explorer-finished"></span><span class="explorer-idle"></span><b></b></p>
    <div class="explorer-chart" role="img">
      <svg preserveAspectRatio="none" aria-hidden="true">
        <path class="explorer-wait" /><path class="explorer-trial" />
      </svg>
      <span class="explorer-word" aria-hidden="true"></span>
      <div class="explorer-veil"></div>
    </div>`;
  static NOTES = { synchronous: _("wait for each other"), asynchronous: _("wait for nobody") };
  static WHO = {
    alone: [_("One worker")],
    synchronous: [_("{number} synchronous workers"), _("{number} synchronous worker")],
    asynchronous: [_("{number} asynchronous workers"), _("{number} asynchronous worker")],
  };

  constructor(kind) {
    this.kind = kind; // "synchronous", "asynchronous", or "alone": one worker, for comparison
    this.element = document.createElement("div");
    this.element.className = `explorer-panel explorer-${kind}`;
    this.element.innerHTML = ExplorerPanel.HTML;
    this.chart = this.find(".explorer-chart");
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  schedule(durations, nWorkers) {
    this.workers = this.kind === "alone" ? 1 : nWorkers;
    this.plan = planning.schedule(durations, this.workers, this.kind === "synchronous");
    this.end = Math.max(...this.plan.map((trial) => trial.end));
    this.waits = planning.waits(this.plan, this.workers);
  }

  // The chart is drawn once, in seconds and rows; while time goes on, only the veil over its future moves.
  draw(until) {
    this.until = until;
    const trialsOfAWorker = this.plan.length / this.workers;
    const gap = Math.min(until / (this.workers > 16 ? 1000 : 500), (0.2 * this.end) / trialsOfAWorker);
    const margin = this.workers > 16 ? 0 : 0.06;
    const bar = ({ worker, start, end }) =>
      `M${start} ${worker + margin}H${Math.max(start, end - gap)}V${worker + 1 - margin}H${start}Z`;
    this.find("svg").setAttribute("viewBox", `0 0 ${until} ${this.workers}`);
    this.find(".explorer-trial").setAttribute("d", this.plan.map(bar).join(""));
    this.find(".explorer-wait").setAttribute("d", this.waits.map(bar).join(""));
    this.find(".explorer-title b").textContent = this.who();
    this.find(".explorer-title span").textContent =
      ExplorerPanel.NOTES[this.kind] ?? filled(_("needs {time} in all"), { time: ExplorerPanel.seconds(this.end) });
    this.chart.style.setProperty("--rows", this.workers);
    this.chart.setAttribute("aria-label", this.summary(until));
    this.label();
  }

  // What there is to see, said where it is, if there is room: the longest wait, and how much earlier those are done who
  // wait for nobody. Room is what the page's layout says it is: the panel must be on the page.
  label() {
    const word = this.find(".explorer-word");
    const length = ({ start, end }) => end - start;
    const longest = this.waits.reduce((best, wait) => (length(wait) > length(best) ? wait : best), {
      start: 0,
      end: 0,
    });
    const earlier = { start: this.end, end: this.until };
    const gained = ExplorerPanel.seconds(Math.round(this.until) - Math.round(this.end));
    const [where, text] = {
      synchronous: [longest, this.workers > 8 ? "" : _("waits")],
      asynchronous: [earlier, filled(_("{time} earlier"), { time: gained })],
      alone: [earlier, ""],
    }[this.kind];
    word.hidden = false;
    word.textContent = text;
    word.style.left = `${(100 * where.start) / this.until}%`;
    word.style.width = `${(100 * length(where)) / this.until}%`;
    word.style.setProperty("--row", where.worker ?? 0);
    word.style.setProperty("--span", where === longest ? 1 : this.workers);
    word.hidden = !text || word.scrollWidth > word.clientWidth;
  }

  show(time) {
    const { finished, idle, clock } = this.progress(time);
    const [trials, share, now] = this.find(".explorer-numbers").children;
    trials.textContent = finished;
    share.textContent = idle;
    now.textContent = clock;
    this.element.classList.toggle("explorer-done", time >= this.end);
    this.find(".explorer-veil").style.transform = `translateX(${(100 * time) / this.until}%)`;
  }

  // As words: finished trials, idle share, and the time, which stops for who is done.
  progress(time) {
    const now = Math.min(time, this.end);
    const { finished, idle } = planning.progress(this.plan, this.workers, now);
    return {
      finished: filled(_("{finished} of {all} trials"), { finished, all: this.plan.length }),
      idle: filled(_("{share}\u00a0% idle"), { share: Math.round(100 * Math.max(0, idle)) }),
      clock: ExplorerPanel.seconds(now),
    };
  }

  who() {
    const [many, one] = ExplorerPanel.WHO[this.kind];
    return filled(this.workers > 1 ? many : (one ?? many), { number: this.workers });
  }

  summary(time) {
    const done = _("{who}: {finished}, {idle}, done after {clock}.");
    const going = _("{who}: {finished}, {idle}, not done after {clock}.");
    return filled(time >= this.end ? done : going, { who: this.who(), ...this.progress(time) });
  }

  static seconds(value) {
    return filled(_("{number}\u00a0s"), { number: Math.round(value).toLocaleString("en") });
  }
}
