// Charts in the colors of the page, which follow the color scheme. Lines also differ by dashes.
"use strict";

const charts = (() => {
  const HUES = {
    light: ["#1f4f9a", "#a3470b", "#0b6b4f", "#7a2a8c", "#8a1538", "#4d5a00", "#00616e", "#5b4636", "#444b54"],
    dark: ["#8ab4f8", "#f6ae6f", "#6fdcb4", "#d9a4ec", "#ff9db4", "#cfdc6a", "#74d9e6", "#d8bfa8", "#c3ccd6"],
  };
  const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const all = [];

  function color(number) {
    const hues = HUES[dark.matches ? "dark" : "light"];
    return hues[number % hues.length];
  }

  function dress(chart) {
    const style = getComputedStyle(document.documentElement);
    const [text, line] = ["--quiet", "--line"].map((name) => style.getPropertyValue(name));
    for (const axis of Object.values(chart.options.scales)) {
      axis.ticks.color = axis.title.color = text;
      axis.grid = { color: line };
    }
    chart.options.plugins.legend.labels.color = text;
    chart.data.datasets.forEach((set, number) => {
      set.borderColor = set.backgroundColor = set.pointBackgroundColor = set.pointBorderColor = color(number);
      set.borderDash = DASHES[number % DASHES.length];
    });
    chart.update();
  }

  function axis(title, further) {
    return { type: "linear", title: { display: Boolean(title), text: title }, ticks: {}, ...further };
  }

  // Creates a chart of points; `x` and `y` come from `axis`. `plugins` are Chart.js's.
  function make(canvas, type, { x, y, label, plugins = [] }) {
    const tooltip = label ? { callbacks: { label } } : {};
    const options = {
      animation: false, maintainAspectRatio: false,
      scales: { x, y }, plugins: { legend: { labels: type === "line" ? { boxWidth: 24, boxHeight: 2 } : {} }, tooltip },
    };
    const chart = new Chart(canvas, { type, data: { datasets: [] }, options, plugins });
    all.push(chart);
    dress(chart);
    return chart;
  }

  function forget(chart) {
    all.splice(all.indexOf(chart), 1);
    chart.destroy();
  }

  dark.addEventListener("change", () => all.forEach(dress));
  return { axis, dress, forget, make };
})();
