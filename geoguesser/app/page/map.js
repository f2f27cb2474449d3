// Map: Leaflet without tiles. The land, the cells, points; and the cross with which a person guesses.
/* global L */
import { at, coordinates, make } from "./words.js";

const STILL = matchMedia("(prefers-reduced-motion: reduce)").matches;
const STEP_PX = 24, FINE_PX = 4;

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
    new ResizeObserver(() => this.map.invalidateSize()).observe(at("map"));
  }

  // The land and cells of a model.
  show(model, outline, cells) {
    this.land.clearLayers();
    this.bounds = L.latLngBounds(model.bounds);
    this.outline = outline;
    this.cells = new Map(cells.features.map((feature) => [feature.id, feature]));
    L.geoJSON(outline, { interactive: false, style: { className: "land", weight: 1, fillOpacity: 1 } }).addTo(this.land);
    this.map.setMinZoom(0);
    this.whole();
    this.map.setMinZoom(this.map.getZoom() - 1);
    this.map.setMaxBounds(this.bounds.pad(0.6));
    this.clear();
  }

  whole() {
    this.map.fitBounds(this.bounds, { padding: [12, 12], animate: false });
  }

  clear() {
    this.drawn.clearLayers();
    this.label(`Map of ${at("map").dataset.region ?? "the region"}`);
    at("key").replaceChildren();
  }

  label(text) {
    const box = this.map.getContainer();
    box.setAttribute("aria-label", text);
    box.setAttribute("role", this.aim ? "application" : "region");
  }

  point(point, className, title, radius = 8) {
    const options = { className, radius, weight: 2, fillOpacity: 1 };
    return L.circleMarker([point.latitude, point.longitude], options).bindTooltip(title).addTo(this.drawn);
  }

  line(from, to, className) {
    const ends = [from, to].map((one) => [one.latitude, one.longitude]);
    return L.polyline(ends, { className, weight: 2.5, dashArray: "6 6", interactive: false }).addTo(this.drawn);
  }

  // A cell, the stronger the more probable it is beside the most probable one.
  cell(number, strength, title) {
    const style = { className: "cell", weight: 0.5, opacity: 0.5, fillOpacity: 0.08 + 0.72 * Math.sqrt(strength) };
    const options = { style };
    return L.geoJSON(this.cells.get(number), options).bindTooltip(title, { sticky: true }).addTo(this.drawn);
  }

  coast() {
    L.geoJSON(this.outline, { interactive: false, style: { className: "coast", weight: 1, fill: false } }).addTo(this.drawn);
  }

  area(geometry, dashed) {
    const style = { className: "area", weight: 2.5, fill: false, dashArray: dashed ? "7 6" : null };
    return L.geoJSON(geometry, { interactive: false, style }).addTo(this.drawn);
  }

  circle(point, radiusKm, dashed) {
    const options = { className: "circle", radius: 1000 * radiusKm, weight: 2.5, interactive: false,
      fillOpacity: dashed ? 0.1 : 0.25, dashArray: dashed ? "7 6" : null };
    return L.circle([point.latitude, point.longitude], options).addTo(this.drawn);
  }

  key(entries) {
    at("key").replaceChildren(...entries.map(([look, words]) => make("li", {}, make("i", { className: look }), words)));
  }

  fit(points) {
    const bounds = L.latLngBounds(points.map((one) => [one.latitude, one.longitude]));
    this.map.fitBounds(bounds, { padding: [50, 50], maxZoom: 9, animate: !STILL });
  }

  // Lets a person point at a place; `onMove` hears where, `onEnter` that the person is sure.
  startAim(onMove, onEnter) {
    this.stopAim();
    this.map.keyboard.disable();
    this.aim = new Aim(this.map, onMove, onEnter);
    at("map").classList.add("aims");
    this.label(`${this.map.getContainer().getAttribute("aria-label")}. Arrow keys move the cross, plus and minus zoom, Enter guesses.`);
  }

  stopAim() {
    this.aim?.remove();
    this.aim = null;
    this.map.keyboard.enable();
    at("map").classList.remove("aims");
  }
}

class Aim {
  constructor(map, onMove, onEnter) {
    this.map = map;
    this.onMove = onMove;
    this.onEnter = onEnter;
    this.cross = null;
  }

  move(place) {
    const icon = L.divIcon({ className: "cross", iconSize: [35, 35] });
    this.cross ??= L.marker(place, { icon, interactive: false, keyboard: false }).addTo(this.map);
    this.cross.setLatLng(place);
    const wrapped = place.wrap();
    const point = { latitude: Math.max(-90, Math.min(90, wrapped.lat)), longitude: wrapped.lng };
    this.onMove(point, coordinates(point));
  }

  press(event) {
    const ways = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    if (event.target !== this.map.getContainer() || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ways) {
      const step = event.shiftKey ? FINE_PX : STEP_PX;
      const from = this.map.latLngToContainerPoint(this.cross?.getLatLng() ?? this.map.getCenter());
      const to = from.add(L.point(ways[event.key]).multiplyBy(step));
      this.move(this.map.containerPointToLatLng(to));
      if (!this.map.getBounds().contains(this.cross.getLatLng())) this.map.panTo(this.cross.getLatLng());
    } else if (event.key === "Enter") {
      if (this.cross) this.onEnter();
    } else if (event.key === "+" || event.key === "=") {
      this.map.setZoomAround(this.cross?.getLatLng() ?? this.map.getCenter(), this.map.getZoom() + 1);
    } else if (event.key === "-") {
      this.map.setZoomAround(this.cross?.getLatLng() ?? this.map.getCenter(), this.map.getZoom() - 1);
    } else {
      return;
    }
    event.preventDefault();
  }

  remove() {
    this.cross?.remove();
  }
}
