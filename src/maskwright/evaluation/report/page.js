"use strict";
// Sorting by a click on a heading, filtering by a text, enlarging pictures. Without this script the page has everything else.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = table.tHead.rows[0].cells;
  for (const [place, heading] of Array.from(headings).entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "descending" || (place === 0 && !heading.hasAttribute("aria-sort"));
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "ascending" : "descending");
      for (const body of table.tBodies) sort(body, place, down ? 1 : -1);
    });
  }
}
for (const table of document.querySelectorAll("table[data-filter]")) {
  const field = document.createElement("label");
  const input = document.createElement("input");
  field.className = "filter";
  input.type = "search";
  field.append(table.dataset.filter, input);
  table.parentElement.before(field);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const body of table.tBodies) {
      for (const row of body.rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    }
  });
}
for (const picture of document.querySelectorAll(".pair img")) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = "Enlarge";
  picture.replaceWith(button);
  button.append(picture);
  const enlarge = (on) => button.classList.toggle("large", on);
  button.addEventListener("click", () => enlarge());
  button.addEventListener("blur", () => enlarge(false));
  button.addEventListener("keydown", (event) => event.key === "Escape" && enlarge(false));
}
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});

function sort(body, place, sign) {
  const rows = Array.from(body.rows).filter((row) => !row.classList.contains("group"));
  const key = (row) => row.cells[place] && (row.cells[place].dataset.sort ?? row.cells[place].textContent.trim());
  const empty = (value) => value === undefined || value === "" || value === "–";
  rows.sort((one, other) => {
    const [left, right] = [key(one), key(other)];
    if (empty(left) || empty(right)) return empty(left) - empty(right);
    const numbers = [Number(left), Number(right)];
    const order = numbers.some(Number.isNaN) ? left.localeCompare(right, undefined, { numeric: true }) : numbers[0] - numbers[1];
    return sign * order;
  });
  body.append(...rows);
}
