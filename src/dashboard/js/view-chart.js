// The course of one vital sign: average as a line, smallest and largest as a band around it.
import { html, useEffect, useMemo, useRef } from "./lib.js";
import { UNITS, clock, metric } from "./format.js";
import { locale, number, t } from "./i18n.js";
import { isDark, language } from "./prefs.js";

const HEIGHT = 150;
// What is longer than so many usual distances between points is drawn as a hole.
const HOLE_GAPS = 4;

// Comes with the first chart.
let library = null;
function load() {
  if (!library) {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("../vendor/uplot.css", import.meta.url);
    document.head.append(style);
    library = import("../vendor/uplot.js").then((module) => module.default);
  }
  return library;
}

function columns(points, step) {
  const all = [[], [], [], []];
  const gaps = points.slice(1).map(([at], index) => (at - points[index][0]) / 1000).sort((a, b) => a - b);
  const hole = Math.max(step, gaps[Math.floor(gaps.length / 2)] ?? 0) * HOLE_GAPS;
  let before = null;
  for (const [at, least, mean, most] of points) {
    const x = at / 1000;
    if (before !== null && x - before > hole) {
      [before + step, null, null, null].forEach((value, index) => all[index].push(value));
    }
    [x, mean, least, most].forEach((value, index) => all[index].push(value));
    before = x;
  }
  return all;
}

// What is counted up has no average: where it stood in the end is what there is to say.
const COUNTED = new Set(["step", "distance", "calorie"]);
const end = ([at, , , most]) => [at, most, most, most];

export function Chart({ name, points: measured, step }) {
  const points = useMemo(() => (COUNTED.has(name) ? measured.map(end) : measured), [name, measured]);
  const box = useRef(null);
  const dark = isDark();
  const chosen = language.value;
  useEffect(() => {
    let chart = null;
    let watcher = null;
    let ended = false;
    load().then((UPlot) => {
      if (ended || !box.current) return;
      const style = getComputedStyle(document.documentElement);
      const color = (key) => style.getPropertyValue(key).trim();
      const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
      const hour = new Intl.DateTimeFormat(locale(), { hour: "2-digit", minute: "2-digit", hour12: false });
      const day = new Intl.DateTimeFormat(locale(), { day: "numeric", month: "short" });
      const long = points.at(-1)[0] - points[0][0] > 2 * 86_400_000;
      chart = new UPlot({
        width: box.current.clientWidth, height: HEIGHT, legend: { show: false }, cursor: { y: false, drag: { x: false } },
        // A lonely point has an hour around it, or all its ticks would have the same name.
        scales: { x: { range: (_, least, most) => (points.length > 1 ? [least, most] : [least - 1800, least + 1800]) }, y: { range: (_, least, most) => {
          const room = Math.max((most - least) * 0.15, name === "body_temperature" ? 0.5 : 3);
          return [least - room, most + room];
        } } },
        axes: [
          { ...axis, size: 28, space: 70, values: (_, at) => at.map((s) => (long ? day : hour).format(s * 1000)) },
          { ...axis, size: 46, space: 28, values: (_, values) => values.map((value) => number(value, UNITS[name]?.[1] ?? 1)) },
        ],
        series: [{}, { stroke: color("--accent"), width: 2, points: { show: points.length < 3 } }, { stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } }],
        bands: [{ series: [3, 2], fill: color("--accent-soft") }],
      }, columns(points, step), box.current);
      const element = box.current;
      watcher = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height: HEIGHT }));
      watcher.observe(element);
    });
    return () => {
      ended = true;
      watcher?.disconnect();
      chart?.destroy();
    };
  }, [points, step, dark, chosen]);
  const last = points.at(-1);
  const least = Math.min(...points.map((point) => point[1]));
  const most = Math.max(...points.map((point) => point[3]));
  return html`<figure class="chart"><figcaption><b>${t("metric." + name)}</b>
    <span>${t("chart.range", { least: metric(name, least), most: metric(name, most) })} · ${t("chart.last", { value: metric(name, last[2]), at: clock(last[0], Date.now(), false) })}</span></figcaption>
    <div ref=${box} class="plot" role="img" aria-label=${t("metric." + name)}></div></figure>`;
}
