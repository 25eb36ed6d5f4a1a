// Draws the points in the table. Groups differ in color and shape; clusters have their names on the map.
"use strict";

(() => {
  const SHAPES = ["circle", "triangle", "rect", "rectRot", "star", "crossRot", "cross", "rectRounded", "dash"];
  const LINE = /.{1,45}(\s|$)|.{45}/gs; // fits the width of a phone
  const LINES = 6;
  const NARROW = 500; // pixels: a phone has room for the names on the map, but not for a legend too
  const drawn = document.getElementById("drawn");
  const bare = { ticks: { display: false } };
  const label = ({ raw, dataset }) => [`${raw.key} (${dataset.label})`, ...(raw.text.match(LINE) ?? []).slice(0, LINES)];
  const median = (numbers) => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
  const clamp = (number, least, most) => Math.max(least, Math.min(number, most));
  const meet = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

  // The boxes for the names, each in the middle of its points. One that would cover another moves down, or else up.
  function boxes(chart, measure, height) {
    const { left, right, top, bottom } = chart.chartArea;
    const placed = [];
    const wanted = chart.data.datasets.map((set, number) => {
      const points = chart.getDatasetMeta(number).data;
      const width = measure(set.label) + 12;
      const x = clamp(median(points.map((point) => point.x)) - width / 2, left, right - width);
      const y = clamp(median(points.map((point) => point.y)) - height / 2, top, bottom - height);
      return { x, y, width, height, number, text: set.label };
    }).filter(({ number }) => chart.isDatasetVisible(number));
    for (const box of wanted.sort((a, b) => a.y - b.y)) {
      for (const step of [1, -1]) {
        let other;
        while ((other = placed.find((one) => meet(one, box)))) box.y = step > 0 ? other.y + height + 2 : other.y - height - 2;
        if (box.y + height <= bottom) break;
      }
      placed.push(box);
    }
    return placed;
  }

  const names = {
    id: "names",
    afterDatasetsDraw(chart) {
      if (!chart.named) return;
      const { ctx } = chart;
      const style = getComputedStyle(document.documentElement);
      const size = chart.width < NARROW ? 11 : 13;
      ctx.save();
      ctx.font = `600 ${size}px system-ui, sans-serif`;
      ctx.textBaseline = "middle";
      chart.names = boxes(chart, (text) => ctx.measureText(text).width, size + 8);
      for (const { x, y, width, height, number, text } of chart.names) {
        ctx.beginPath();
        ctx.roundRect(x, y, width, height, 4);
        ctx.fillStyle = style.getPropertyValue("--card");
        ctx.globalAlpha = 0.9;
        ctx.fill();
        ctx.globalAlpha = 1;
        ctx.lineWidth = 1.5;
        ctx.strokeStyle = chart.data.datasets[number].borderColor;
        ctx.stroke();
        ctx.fillStyle = style.getPropertyValue("--text");
        ctx.fillText(text, x + 6, y + height / 2 + 1);
      }
      ctx.restore();
    },
  };

  const chart = charts.make(document.getElementById("map"), "scatter", {
    x: charts.axis("", bare), y: charts.axis("", { ticks: { display: false } }), label, plugins: [names],
  });
  chart.options.plugins.legend.labels.usePointStyle = true;
  chart.options.plugins.tooltip.filter = (_, place) => place === 0; // of overlapping points, only the first
  chart.options.onResize = (resized, { width }) => {
    resized.options.plugins.legend.display = !(resized.named && width < NARROW);
  };

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
    chart.named = drawn.querySelector("[data-clusters]") !== null;
    chart.options.plugins.legend.display = !(chart.named && chart.width < NARROW);
    charts.dress(chart);
  });
})();
