// Buttons that fetch a result in another form and save it.

import { make } from "./legend.js";

const FORMS = {
  overlay: { text: "Overlay", about: "PNG to look at", ending: "overlay.png" },
  labels: { text: "Label map", about: "PNG of numbers", ending: "labels.png" },
  mask: { text: "Mask", about: "PNG, 0 and 255", ending: "mask.png" },
  json: { text: "JSON", about: "everything", ending: "json" },
  coco: { text: "COCO", about: "annotations", ending: "coco.json" },
};

/**
 * The buttons of a question.
 * @param {HTMLElement} place
 * @param {string[]} forms that the server has for it
 * @param {(form: string) => Promise<{blob: Blob, name: string}>} get
 * @param {(error: Error) => void} onError
 */
export function showDownloads(place, forms, get, onError) {
  const order = Object.keys(FORMS).filter((form) => forms.includes(form));
  place.replaceChildren(...order.map((form) => {
    const { text, about, ending } = FORMS[form];
    const button = make("button", { type: "button" }, make("strong", {}, text), make("small", {}, about));
    button.dataset.form = form;
    button.addEventListener("click", async () => {
      button.setAttribute("aria-busy", "true");
      try {
        const { blob, name } = await get(form);
        save(blob, `${name}.${ending}`);
      } catch (error) {
        onError(error);
      } finally {
        button.removeAttribute("aria-busy");
      }
    });
    return button;
  }));
}

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
