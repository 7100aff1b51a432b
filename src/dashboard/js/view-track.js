// Where a watch has been, on a map. Without a tile server the map is a plain grid with a scale.
import { html, useEffect, useRef } from "./lib.js";
import { clock, instant, joined, kindOf, place } from "./format.js";
import { t } from "./i18n.js";
import { isDark, language } from "./prefs.js";
import { Nothing } from "./view-parts.js";

// Comes with the first map.
let library = null;
function load() {
  if (!library) {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("../vendor/leaflet.css", import.meta.url);
    const styled = new Promise((resolve) => { style.onload = style.onerror = resolve; });
    document.head.append(style);
    library = Promise.all([import("../vendor/leaflet.js"), styled]).then(() => globalThis.leaflet);
  }
  return library;
}

const tileUrl = () => document.querySelector('meta[name="tile-url"]')?.content;

function text(...lines) {
  const element = document.createElement("span");
  element.textContent = joined(...lines);
  return element;
}

export function Track({ points, last }) {
  const box = useRef(null);
  const dark = isDark();
  const chosen = language.value;
  const all = points.length ? points : last ? [{ ...last, event_type: null }] : [];
  useEffect(() => {
    if (all.length === 0) return undefined;
    let map = null;
    let ended = false;
    load().then((L) => {
      if (ended || !box.current) return;
      const style = getComputedStyle(document.documentElement);
      const color = (key) => style.getPropertyValue(key).trim();
      const path = all.map((point) => [point.latitude, point.longitude]);
      map = L.map(box.current, { attributionControl: false, zoomAnimation: false, fadeAnimation: false, markerZoomAnimation: false });
      map.getContainer().setAttribute("aria-label", t("track"));
      if (tileUrl()) L.tileLayer(tileUrl(), { maxZoom: 19, referrerPolicy: "origin" }).addTo(map);
      L.control.scale({ imperial: false }).addTo(map);
      map.fitBounds(L.latLngBounds(path).pad(0.2), { maxZoom: 16 });
      L.polyline(path, { color: color("--accent"), weight: 3, opacity: 0.8 }).addTo(map);
      all.forEach((point, index) => {
        const newest = instant(point.at) === Math.max(...all.map((other) => instant(other.at)));
        const critical = /SOS|FALL|ONE_KEY/i.test(point.event_type ?? "");
        const fill = critical ? color("--critical") : newest ? color("--accent") : color("--card");
        L.circleMarker(path[index], { radius: newest || critical ? 7 : 4, weight: 2, color: critical ? color("--critical") : color("--accent"), fillColor: fill, fillOpacity: 1 })
          .bindTooltip(text(clock(instant(point.at)), point.event_type ? kindOf(point.event_type) : t("track.here"), place(point)))
          .addTo(map);
      });
    });
    return () => {
      ended = true;
      map?.remove();
    };
  }, [points, last?.at, dark, chosen]);
  if (all.length === 0) return html`<${Nothing} icon="pin" title=${t("track.none")} />`;
  return html`<div ref=${box} class="map"></div>`;
}
