// Photos: the four slots, and all the ways in which a photo comes into one. Calls back when they have changed.
import { HEADINGS, at, capital, make } from "./words.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];
// 0.jpg, place_90.jpg, img-180.webp, north.png: the heading that a file's name ends with
const NAMES = [/(^|[^0-9])0+$/, /(^|[^0-9])0*90$/, /(^|[^0-9])180$/, /(^|[^0-9])270$/];

export class Photos {
  constructor(onChange) {
    this.onChange = onChange;
    this.files = Object.fromEntries(HEADINGS.map((heading) => [heading, null]));
    this.previews = {};
    this.slots = Object.fromEntries(HEADINGS.map((heading) => [heading, this.slot(heading)]));
    at("slots").replaceChildren(...Object.values(this.slots));
    at("choose").addEventListener("change", (event) => this.add(event.target));
    at("clear").addEventListener("click", () => this.clear());
    this.listen();
  }

  get count() {
    return HEADINGS.filter((heading) => this.files[heading]).length;
  }

  get bytes() {
    return HEADINGS.reduce((sum, heading) => sum + (this.files[heading]?.size ?? 0), 0);
  }

  slot(heading) {
    const input = make("input", { type: "file", accept: TYPES.join(), className: "hidden", id: `file-${heading}`,
      "aria-label": `Photo that looks ${heading}` });
    input.addEventListener("change", () => this.take(input, heading));
    const image = make("img", { alt: "", hidden: true });
    const empty = make("span", { className: "empty" }, "choose or drop");
    const off = make("button", { type: "button", className: "off", hidden: true, "aria-label": `Remove the photo that looks ${heading}` }, "×");
    off.addEventListener("click", () => { this.put(heading, null); this.changed(); input.focus(); });
    const box = make("div", { className: "slot" }, make("label", {}, input, image, empty), make("b", {}, capital(heading)), off);
    box.addEventListener("drop", (event) => this.dropped(event, heading));
    return box;
  }

  take(input, heading) {
    const files = [...input.files];
    input.value = "";
    if (files.length) this.assign(files, heading);
  }

  add(input) {
    const files = [...input.files];
    input.value = "";
    if (files.length) this.assign(files, null);
  }

  listen() {
    const drop = at("drop");
    addEventListener("dragover", (event) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      drop.classList.toggle("over", drop.contains(event.target));
    });
    addEventListener("dragleave", () => drop.classList.remove("over"));
    addEventListener("drop", (event) => this.dropped(event, null));
    addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length && !at("photos").hidden) this.assign(files, null);
    });
  }

  dropped(event, heading) {
    event.preventDefault();
    event.stopPropagation();
    at("drop").classList.remove("over");
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length && !at("photos").hidden) this.assign(files, heading);
  }

  // One file goes where it was dropped; several go by their names, else by their order into what is free.
  assign(files, heading) {
    const photos = files.filter((file) => TYPES.includes(file.type));
    const refused = files.length - photos.length;
    const rest = [];
    if (photos.length === 1 && heading) {
      this.put(heading, photos[0]);
    } else {
      for (const file of photos) {
        const named = headingOf(file.name);
        if (named) this.put(named, file);
        else rest.push(file);
      }
    }
    let left = 0;
    for (const file of rest) {
      const free = HEADINGS.find((one) => !this.files[one]);
      if (free) this.put(free, file);
      else left += 1;
    }
    const words = [];
    if (refused) words.push(`${refused} of the files ${refused > 1 ? "are" : "is"} no JPEG, PNG or WebP photo`);
    if (left) words.push(`${left} of the photos had no free direction`);
    this.changed(words.length ? `${words.join("; ")}.` : "");
  }

  put(heading, file) {
    if (this.previews[heading]) URL.revokeObjectURL(this.previews[heading]);
    this.files[heading] = file;
    this.previews[heading] = file && URL.createObjectURL(file);
    const slot = this.slots[heading], image = slot.querySelector("img");
    image.hidden = !file;
    slot.querySelector(".empty").hidden = Boolean(file);
    slot.querySelector(".off").hidden = !file;
    if (file) image.src = this.previews[heading];
    else image.removeAttribute("src");
    image.alt = file ? `Your photo that looks ${heading}` : "";
  }

  clear() {
    for (const heading of HEADINGS) this.put(heading, null);
    this.changed();
    at("choose").focus();
  }

  changed(remark = "") {
    at("clear").hidden = this.count === 0;
    this.onChange(remark);
  }
}

export function headingOf(name) {
  const stem = name.toLowerCase().replace(/\.[a-z]+$/, "");
  const numbered = NAMES.findIndex((pattern) => pattern.test(stem));
  if (numbered >= 0) return HEADINGS[numbered];
  return HEADINGS.find((heading) => new RegExp(`(^|[^a-z])${heading}$`).test(stem)) ?? null;
}
