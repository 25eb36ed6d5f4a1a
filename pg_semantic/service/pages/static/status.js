// Refreshes the figures, and charts those since the page was opened.
"use strict";

(() => {
  const EVERY_MS = 5000;
  const KEPT = 720; // an hour
  const MINUTE_MS = 60000;
  let opened = null;
  const figures = document.getElementById("figures");
  const time = (at) => new Date(at).toLocaleTimeString();
  const drawn = {};

  for (const [name, further] of [["coverage", { min: 0, max: 100 }], ["lag", { min: 0 }], ["rate", { min: 0 }]]) {
    const x = charts.axis("", { ticks: { callback: time, maxTicksLimit: 4, maxRotation: 0 } });
    drawn[name] = charts.make(document.getElementById(name), "line", { x, y: charts.axis("", further) });
    drawn[name].options.plugins.tooltip.callbacks = { title: (items) => time(items[0].parsed.x) };
  }

  function add(name, title, point) {
    const { datasets } = drawn[name].data;
    let set = datasets.find((one) => one.label === title);
    if (!set) datasets.push((set = { label: title, data: [], pointRadius: 2, borderWidth: 2, clip: 4 }));
    set.data.push(point);
    if (set.data.length > KEPT) set.data.shift();
  }

  document.addEventListener("htmx:afterSettle", (event) => {
    const now = document.getElementById("now");
    if (event.detail.target !== figures || !now) return;
    const x = Number(now.dataset.at);
    add("rate", "all workers", { x, y: Number(now.dataset.rate) });
    for (const row of figures.querySelectorAll("tr.figure")) {
      const { title, lag, coverage } = row.dataset;
      add("lag", title, { x, y: Number(lag) });
      if (coverage !== "") add("coverage", title, { x, y: Number(coverage) * 100 });
    }
    opened ??= x;
    for (const chart of Object.values(drawn)) {
      Object.assign(chart.options.scales.x, { min: Math.max(opened, x - KEPT * EVERY_MS), max: Math.max(x, opened + MINUTE_MS) });
      charts.dress(chart);
    }
  });

  setInterval(() => {
    if (document.getElementById("refresh").checked && !document.hidden) htmx.trigger(figures, "refresh");
  }, EVERY_MS);
})();
