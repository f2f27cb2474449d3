// Leaflet map without tiles: the region, its cells, points, and the cross with which a person guesses.
/* global L */
import { byId, makeElement } from "./dom.js";
import { formatPoint } from "./format.js";

const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;
const STEP_PX = 24, SMALL_STEP_PX = 4;
const DIRECTIONS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
const ZOOM_STEPS = { "+": 1, "=": 1, "-": -1 };

// Leaflet parses a string as HTML, but shows a node as it is.
const plain = (text) => document.createTextNode(text);
const toLatLng = ({ latitude, longitude }) => [latitude, longitude];

export class RegionMap {
  constructor() {
    this.map = L.map("map", {
      zoomSnap: 0.25, maxZoom: 13, attributionControl: false,
      zoomAnimation: !STILL, fadeAnimation: !STILL, markerZoomAnimation: !STILL, inertia: !STILL,
    });
    L.control.attribution({ prefix: false }).addAttribution("Map: Leaflet; shipped outlines: Natural Earth").addTo(this.map);
    this.land = L.layerGroup().addTo(this.map);
    this.drawn = L.layerGroup().addTo(this.map);
    this.cells = new Map();
    this.aim = null;

    this.map.on("click", (event) => this.aim?.move(event.latlng));
    this.map.getContainer().addEventListener("keydown", (event) => this.aim?.press(event));
    new ResizeObserver(() => this.map.invalidateSize()).observe(byId("map"));
  }

  // Replaces the region and cells by those of another model.
  showModel(model, outline, cells) {
    this.land.clearLayers();
    this.bounds = L.latLngBounds(model.bounds);
    this.outline = outline;
    this.cells = new Map(cells.features.map((feature) => [feature.id, feature]));
    L.geoJSON(outline, { interactive: false, style: { className: "land", weight: 1, fillOpacity: 1 } }).addTo(this.land);

    // The old minimum zoom could be too large for the new region.
    this.map.setMinZoom(0);
    this.showRegion();
    this.map.setMinZoom(this.map.getZoom() - 1);
    this.map.setMaxBounds(this.bounds.pad(0.6));
    this.clear();
  }

  showRegion() {
    this.map.fitBounds(this.bounds, { padding: [12, 12], animate: false });
  }

  clear() {
    this.drawn.clearLayers();
    this.setLabel(`Map of ${byId("map").dataset.region ?? "the region"}`);
    byId("legend").replaceChildren();
  }

  setLabel(text) {
    const container = this.map.getContainer();
    container.setAttribute("aria-label", text);
    container.setAttribute("role", this.aim ? "application" : "region");
  }

  addPoint(point, className, title, radius = 8) {
    const options = { className, radius, weight: 2, fillOpacity: 1 };
    return L.circleMarker(toLatLng(point), options).bindTooltip(plain(title)).addTo(this.drawn);
  }

  addLine(from, to, className) {
    const options = { className, weight: 2.5, dashArray: "6 6", interactive: false };
    return L.polyline([toLatLng(from), toLatLng(to)], options).addTo(this.drawn);
  }

  // `share` is the probability of the cell divided by that of the most probable cell. The square root keeps
  // improbable cells visible.
  addCell(number, share, title) {
    const style = { className: "cell", weight: 0.5, opacity: 0.5, fillOpacity: 0.08 + 0.72 * Math.sqrt(share) };
    return L.geoJSON(this.cells.get(number), { style }).bindTooltip(plain(title), { sticky: true }).addTo(this.drawn);
  }

  addCoast() {
    L.geoJSON(this.outline, { interactive: false, style: { className: "coast", weight: 1, fill: false } }).addTo(this.drawn);
  }

  addArea(geometry, dashed) {
    const style = { className: "area", weight: 2.5, fill: false, dashArray: dashed ? "7 6" : null };
    return L.geoJSON(geometry, { interactive: false, style }).addTo(this.drawn);
  }

  addCircle(point, radiusKm, dashed) {
    const options = { className: "circle", radius: 1000 * radiusKm, weight: 2.5, interactive: false,
      fillOpacity: dashed ? 0.1 : 0.25, dashArray: dashed ? "7 6" : null };
    return L.circle(toLatLng(point), options).addTo(this.drawn);
  }

  setLegend(entries) {
    byId("legend").replaceChildren(...entries.map(([className, text]) =>
      makeElement("li", {}, makeElement("i", { className }), text)));
  }

  fitPoints(points) {
    this.map.fitBounds(L.latLngBounds(points.map(toLatLng)), { padding: [50, 50], maxZoom: 9, animate: !STILL });
  }

  // Lets a person choose a point. `onMove` receives the point and its text, `onEnter` is called to confirm it.
  startAim(onMove, onEnter) {
    this.stopAim();
    this.map.keyboard.disable();
    this.aim = new Aim(this.map, onMove, onEnter);
    byId("map").classList.add("aims");
    const label = this.map.getContainer().getAttribute("aria-label");
    this.setLabel(`${label}. Arrow keys move the cross, plus and minus zoom, Enter guesses.`);
  }

  stopAim() {
    this.aim?.remove();
    this.aim = null;
    this.map.keyboard.enable();
    byId("map").classList.remove("aims");
  }
}

class Aim {
  constructor(map, onMove, onEnter) {
    Object.assign(this, { map, onMove, onEnter, cross: null });
  }

  get center() {
    return this.cross?.getLatLng() ?? this.map.getCenter();
  }

  move(latLng) {
    const icon = L.divIcon({ className: "cross", iconSize: [35, 35] });
    this.cross ??= L.marker(latLng, { icon, interactive: false, keyboard: false }).addTo(this.map);
    this.cross.setLatLng(latLng);

    // Leaflet's map continues beyond the date line and the poles.
    const wrapped = latLng.wrap();
    const point = { latitude: Math.max(-90, Math.min(90, wrapped.lat)), longitude: wrapped.lng };
    this.onMove(point, formatPoint(point));
  }

  press(event) {
    if (event.target !== this.map.getContainer() || event.ctrlKey || event.metaKey || event.altKey) return;

    if (event.key in DIRECTIONS) {
      const step = L.point(DIRECTIONS[event.key]).multiplyBy(event.shiftKey ? SMALL_STEP_PX : STEP_PX);
      this.move(this.map.containerPointToLatLng(this.map.latLngToContainerPoint(this.center).add(step)));
      if (!this.map.getBounds().contains(this.center)) this.map.panTo(this.center);
    } else if (event.key in ZOOM_STEPS) {
      this.map.setZoomAround(this.center, this.map.getZoom() + ZOOM_STEPS[event.key]);
    } else if (event.key === "Enter") {
      if (this.cross) this.onEnter();
    } else {
      return;
    }
    event.preventDefault();
  }

  remove() {
    this.cross?.remove();
  }
}
