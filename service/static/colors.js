// Swatches of the colours that photos can be filtered by; several mean any of them.

const SHOWN = { brown: "#7b4a21" }; // what browsers call brown is a red

export class Swatches extends EventTarget {
  #field;

  constructor(field) {
    super();
    this.#field = field;
  }

  get chosen() {
    return [...this.#field.querySelectorAll("input:checked")].map(({ value }) => value);
  }

  show(names) {
    const row = this.#field.querySelector(".swatches");
    row.replaceChildren(...names.map((name) => this.#swatch(name)));
    this.#field.hidden = names.length === 0;
  }

  #swatch(name) {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = name;
    box.title = name;
    box.setAttribute("aria-label", name);
    box.style.backgroundColor = SHOWN[name] ?? name;
    box.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    return box;
  }
}
