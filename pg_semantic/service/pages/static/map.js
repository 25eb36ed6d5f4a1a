// Draws the points in the table. Groups differ in color and shape.
"use strict";

(() => {
  const SHAPES = ["circle", "triangle", "rect", "rectRot", "star", "crossRot", "cross", "rectRounded", "dash"];
  const LINE = /.{1,45}(\s|$)|.{45}/gs; // fits the width of a phone
  const LINES = 6;
  const drawn = document.getElementById("drawn");
  const bare = { ticks: { display: false } };
  const label = ({ raw, dataset }) => [`${raw.key} (${dataset.label})`, ...(raw.text.match(LINE) ?? []).slice(0, LINES)];
  const chart = charts.make(document.getElementById("map"), "scatter", {
    x: charts.axis("", bare), y: charts.axis("", { ticks: { display: false } }), label,
  });
  chart.options.plugins.legend.labels.usePointStyle = true;
  chart.options.plugins.tooltip.filter = (_, place) => place === 0; // of overlapping points, only the first

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target !== drawn) return;
    const sets = [];
    for (const row of drawn.querySelectorAll("tr.point")) {
      const [key, group, text] = [...row.cells].map((cell) => cell.textContent);
      const number = Number(row.dataset.group);
      sets[number] ??= { label: group, data: [], pointRadius: 4, pointStyle: SHAPES[number % SHAPES.length] };
      sets[number].data.push({ x: Number(row.dataset.x), y: Number(row.dataset.y), key, text });
    }
    chart.data.datasets = sets;
    charts.dress(chart);
  });
})();
