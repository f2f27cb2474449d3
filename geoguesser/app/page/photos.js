// The four slots for photos, filled by choosing, dropping or pasting files.
import { HEADINGS } from "./api.js";
import { byId, makeElement } from "./dom.js";
import { capitalize } from "./format.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];
// Names that end with a heading, in the order of HEADINGS: 0.jpg, place_90.jpg, img-180.webp.
const NUMBER_PATTERNS = [/(^|[^0-9])0+$/, /(^|[^0-9])0*90$/, /(^|[^0-9])180$/, /(^|[^0-9])270$/];

export class Photos {
  // `onChange` receives a remark about files that were not used, or an empty text.
  constructor(onChange) {
    this.onChange = onChange;
    this.files = Object.fromEntries(HEADINGS.map((heading) => [heading, null]));
    this.previews = {};
    this.slots = Object.fromEntries(HEADINGS.map((heading) => [heading, this.makeSlot(heading)]));
    byId("slots").replaceChildren(...Object.values(this.slots));
    byId("choose").addEventListener("change", (event) => this.addChosen(event.target, null));
    byId("clear").addEventListener("click", () => this.clear());
    this.listen();
  }

  get count() {
    return HEADINGS.filter((heading) => this.files[heading]).length;
  }

  get bytes() {
    return HEADINGS.reduce((sum, heading) => sum + (this.files[heading]?.size ?? 0), 0);
  }

  makeSlot(heading) {
    const input = makeElement("input", { type: "file", accept: TYPES.join(), className: "hidden", id: `file-${heading}`,
      "aria-label": `Photo that looks ${heading}` });
    input.addEventListener("change", () => this.addChosen(input, heading));
    const image = makeElement("img", { alt: "", hidden: true });
    const placeholder = makeElement("span", { className: "empty" }, "choose or drop");

    const remove = makeElement("button", { type: "button", className: "remove", hidden: true,
      "aria-label": `Remove the photo that looks ${heading}` }, "×");
    remove.addEventListener("click", () => {
      this.set(heading, null);
      this.update();
      input.focus();
    });

    const slot = makeElement("div", { className: "slot" },
      makeElement("label", {}, input, image, placeholder), makeElement("b", {}, capitalize(heading)), remove);
    slot.addEventListener("drop", (event) => this.addDropped(event, heading));
    return slot;
  }

  listen() {
    const drop = byId("drop");
    addEventListener("dragover", (event) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      drop.classList.toggle("over", drop.contains(event.target));
    });
    addEventListener("dragleave", () => drop.classList.remove("over"));
    addEventListener("drop", (event) => this.addDropped(event, null));
    addEventListener("paste", (event) => {
      if (!byId("photos").hidden) this.add([...(event.clipboardData?.files ?? [])], null);
    });
  }

  addChosen(input, heading) {
    const files = [...input.files];
    // Without this, the browser reports no change if the same file is chosen again.
    input.value = "";
    this.add(files, heading);
  }

  addDropped(event, heading) {
    event.preventDefault();
    event.stopPropagation();
    byId("drop").classList.remove("over");
    if (!byId("photos").hidden) this.add([...(event.dataTransfer?.files ?? [])], heading);
  }

  // A single file for a heading goes there. Several files go to the heading in their name, and those without one
  // into the free slots in order.
  add(files, heading) {
    if (!files.length) return;
    const photos = files.filter((file) => TYPES.includes(file.type));
    const getHeading = photos.length === 1 && heading ? () => heading : (file) => findHeading(file.name);

    const unnamed = [];
    for (const photo of photos) {
      const target = getHeading(photo);
      if (target) this.set(target, photo);
      else unnamed.push(photo);
    }
    const free = HEADINGS.filter((candidate) => !this.files[candidate]);
    unnamed.slice(0, free.length).forEach((photo, index) => this.set(free[index], photo));

    const refused = files.length - photos.length, left = Math.max(0, unnamed.length - free.length);
    const remarks = [];
    if (refused) remarks.push(`Not JPEG, PNG or WebP photos: ${refused} of the files`);
    if (left) remarks.push(`No free direction: ${left} of the photos`);
    this.update(remarks.length ? `${remarks.join("; ")}.` : "");
  }

  set(heading, file) {
    if (this.previews[heading]) URL.revokeObjectURL(this.previews[heading]);
    this.files[heading] = file;
    this.previews[heading] = file && URL.createObjectURL(file);

    const slot = this.slots[heading], image = slot.querySelector("img");
    image.hidden = !file;
    slot.querySelector(".empty").hidden = Boolean(file);
    slot.querySelector(".remove").hidden = !file;
    if (file) image.src = this.previews[heading];
    else image.removeAttribute("src");
    image.alt = file ? `Your photo that looks ${heading}` : "";
  }

  clear() {
    for (const heading of HEADINGS) this.set(heading, null);
    this.update();
    byId("choose").focus();
  }

  update(remark = "") {
    byId("clear").hidden = this.count === 0;
    this.onChange(remark);
  }
}

function findHeading(fileName) {
  const stem = fileName.toLowerCase().replace(/\.[a-z]+$/, "");
  const index = NUMBER_PATTERNS.findIndex((pattern) => pattern.test(stem));
  if (index >= 0) return HEADINGS[index];
  return HEADINGS.find((heading) => new RegExp(`(^|[^a-z])${heading}$`).test(stem)) ?? null;
}
