// Draws the measurements in the table.
"use strict";

(() => {
  const measured = document.getElementById("measured");
  const x = charts.axis("median milliseconds", { min: 0 });
  const y = charts.axis("recall, %", { suggestedMin: 90, max: 100 });
  const label = ({ raw }) => `ef_search ${raw.ef}: ${raw.y.toFixed(1)} % in ${raw.x.toFixed(2)} ms`;
  const chart = charts.make(document.getElementById("tradeoff"), "line", { x, y, label });

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target !== measured) return;
    const data = [...measured.querySelectorAll("tr.point")].map(({ dataset }) => ({
      x: Number(dataset.ms), y: Number(dataset.recall) * 100, ef: dataset.ef,
    }));
    chart.data.datasets = [{ label: document.getElementById("index").value, data, pointRadius: 5, borderWidth: 2, clip: 8 }];
    charts.dress(chart);
  });
})();
