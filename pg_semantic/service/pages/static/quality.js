// Draws the figures in the table: one chart per measure, one line per variant and set of judgements.
"use strict";

(() => {
  const kept = document.getElementById("kept");
  const plots = document.getElementById("plots");
  const day = (at) => new Date(at).toLocaleDateString();
  let drawn = [];

  function canvas(measure) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const box = document.createElement("div");
    const made = document.createElement("canvas");
    caption.textContent = measure;
    box.className = "chart";
    made.id = `plot-${measure}`;
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", `${measure} over time, one line per variant; the table below has the figures`);
    box.append(made);
    figure.append(caption, box);
    plots.append(figure);
    return made;
  }

  // The lines of each measure by their names, oldest point first.
  function lines() {
    const found = new Map();
    for (const cell of [...kept.querySelectorAll("td[data-measure]")].reverse()) {
      const { measure, value } = cell.dataset;
      const { at, variant, judgements } = cell.parentElement.dataset;
      const name = judgements ? `${variant} (judgements ${judgements})` : variant;
      if (!found.has(measure)) found.set(measure, new Map());
      const named = found.get(measure);
      if (!named.has(name)) named.set(name, []);
      named.get(name).push({ x: Number(at), y: Number(value) });
    }
    return found;
  }

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target !== kept) return;
    drawn.forEach(charts.forget);
    plots.replaceChildren();
    const found = lines();
    const names = [...new Set([...found.values()].flatMap((named) => [...named.keys()]))].sort();
    const measures = [...found.keys()].sort((a, b) => a.toLowerCase().localeCompare(b.toLowerCase()));
    drawn = measures.map((measure) => {
      const x = charts.axis("", { ticks: { callback: day, maxTicksLimit: 4, maxRotation: 0 } });
      const y = charts.axis("", { grace: "10%" });
      const label = ({ raw, dataset }) => `${dataset.label}: ${raw.y.toFixed(4)}`;
      const chart = charts.make(canvas(measure), "line", { x, y, label });
      chart.options.plugins.tooltip.callbacks.title = (items) => new Date(items[0].parsed.x).toLocaleString();
      // A line has the same color in each chart, also where it has no points.
      chart.data.datasets = names.map((name) => ({
        label: name, data: found.get(measure).get(name) ?? [], pointRadius: 4, borderWidth: 2, clip: 8,
      }));
      charts.dress(chart);
      return chart;
    });
  });
})();
