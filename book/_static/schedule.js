// The arithmetic of async_hpo/schedule.py for the scheduling explorer; tests/test_explorer.py holds the two together.
"use strict";

const planning = (() => {
  const MANY = 20000; // quantiles that stand for a distribution

  // When each trial runs, and on which worker: see `schedule` in async_hpo/schedule.py.
  function schedule(durations, nWorkers, synchronous) {
    const free = new Array(nWorkers).fill(0); // from when on each worker is free
    return durations.map((seconds, trial) => {
      if (synchronous && trial % nWorkers === 0) free.fill(Math.max(...free));
      const start = Math.min(...free);
      const worker = free.indexOf(start);
      free[worker] = start + seconds;
      return { trial, worker, start, end: free[worker] };
    });
  }

  // Where the workers of a plan have nothing to do until its last trial has ended.
  function waits(plan, nWorkers) {
    const end = Math.max(...plan.map((trial) => trial.end));
    const free = new Array(nWorkers).fill(0);
    const found = [];
    for (const { worker, start, end: until } of plan) {
      if (start > free[worker]) found.push({ worker, start: free[worker], end: start });
      free[worker] = until;
    }
    free.forEach((start, worker) => start < end && found.push({ worker, start, end }));
    return found;
  }

  // What a plan has come to at a time: trials that have ended, and the share of the workers' time that was idle.
  function progress(plan, nWorkers, time) {
    const finished = plan.filter((trial) => trial.end <= time).length;
    const busy = sum(plan.map(({ start, end }) => Math.max(0, Math.min(time, end) - start)));
    return { finished, idle: time > 0 ? 1 - busy / (nWorkers * time) : 0 };
  }

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // A sorted table as pairs [rank, seconds]: up to this share of its trials, a trial takes so long. `groups` are the
  // same as pairs [number of trials, seconds].
  function ranked(groups) {
    const all = sum(groups.map(([trials]) => trials));
    let ended = 0;
    return groups.map(([trials, seconds]) => [(ended += trials) / all, seconds]);
  }

  // The mean of the longest of n durations drawn at random: see `expected_maximum` in async_hpo/schedule.py.
  function expectedMaximum(pairs, n) {
    return sum(pairs.map(([rank, seconds], i) => (rank ** n - (i ? pairs[i - 1][0] : 0) ** n) * seconds));
  }

  // Spreads of durations as quantile functions of a share between 0 and 1. All but the recorded one have mean 1 and are
  // scaled to the recorded mean, so that nothing changes but the spread. `groups`: the recorded durations, as above.
  function spreads(groups) {
    const pairs = ranked(groups);
    const average = expectedMaximum(pairs, 1);
    const quantiles = {
      constant: () => average,
      uniform: (share) => 2 * share * average,
      recorded: (share) => pairs.find(([rank]) => share < rank)[1],
      exponential: (share) => -Math.log(1 - share) * average,
      "log-normal": (share) => Math.exp(normalQuantile(share) - 0.5) * average, // the logarithm's deviation is 1
    };
    return Object.fromEntries(
      Object.entries(quantiles).map(([name, quantile]) => {
        const grid = () => Array.from({ length: MANY }, (_, i) => [1, quantile((i + 0.5) / MANY)]);
        return [name, { quantile, pairs: name === "recorded" ? pairs : ranked(grid()) }];
      }),
    );
  }

  // The formula: what the longest of a batch and any one trial take on average.
  function predicted({ pairs }, nWorkers) {
    const [longest, average] = [nWorkers, 1].map((n) => expectedMaximum(pairs, n));
    return { longest, average, ratio: longest / average };
  }

  // Durations of trials. With seed 0 they begin with `first`: the recorded trials in their order, as in the book.
  function draw({ quantile }, nTrials, seed, first = []) {
    const random = generator(seed);
    const drawn = Array.from({ length: nTrials }, () => quantile(random()));
    return seed === 0 ? [...first, ...drawn.slice(first.length)].slice(0, nTrials) : drawn;
  }

  // mulberry32: numbers between 0 and 1, the same for the same seed.
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
    };
  }

  // The quantile function of the standard normal distribution (Acklam's approximation, to nine digits).
  function normalQuantile(share) {
    if (share > 0.5) return -normalQuantile(1 - share);
    const polynomial = (coefficients, x) => coefficients.reduce((value, c) => value * x + c, 0);
    if (share < 0.02425) {
      const x = Math.sqrt(-2 * Math.log(share));
      const above = [
        -7.784894002430293e-3, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968,
        2.938163982698783,
      ];
      const below = [7.784695709041462e-3, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1];
      return polynomial(above, x) / polynomial(below, x);
    }
    const x = share - 0.5;
    const above = [
      -39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716,
      2.506628277459239,
    ];
    const below = [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1];
    return (x * polynomial(above, x * x)) / polynomial(below, x * x);
  }

  return { schedule, waits, progress, expectedMaximum, spreads, predicted, draw };
})();
