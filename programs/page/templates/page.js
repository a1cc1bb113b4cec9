"use strict";
// What needs a script: values under the pointer and by keyboard, and choosing queries. Without one
// the page shows everything.
document.documentElement.classList.add("is-scripted");

function followEpochs(figure) {
  const { epochs, columns, cells } = JSON.parse(figure.dataset.chart);
  const drawing = figure.querySelector("svg");
  const cursor = drawing.querySelector(".cursor");
  const slider = figure.querySelector("input[type=range]");
  const number = figure.querySelector(".epoch .number");
  const values = figure.querySelectorAll(".legend .value");
  const names = [...figure.querySelectorAll(".legend bdi")].map((name) => name.textContent);

  function show() {
    const place = Number(slider.value);
    cursor.setAttribute("x1", columns[place]);
    cursor.setAttribute("x2", columns[place]);
    number.textContent = epochs[place];
    values.forEach((value, line) => { value.textContent = cells[line][place]; });
    const spoken = names.map((name, line) => `${name} ${cells[line][place]}`);
    slider.setAttribute("aria-valuetext", `epoch ${epochs[place]}: ${spoken.join(", ")}`);
  }

  function point(event) {
    const box = drawing.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * drawing.viewBox.baseVal.width;
    const away = columns.map((column) => Math.abs(column - across));
    slider.value = away.indexOf(Math.min(...away));
    show();
  }

  slider.addEventListener("input", show);
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  show();
}

function filterQueries(form) {
  const panels = [...form.parentElement.querySelectorAll(".panel")];
  const output = form.querySelector("output");
  const chosen = form.elements;

  function show() {
    const kind = chosen.kind.value;
    const label = chosen.class.value;
    let count = 0;
    for (const panel of panels) {
      const fits = (!kind || panel.dataset.kind === kind) && (!label || panel.dataset.class === label);
      panel.hidden = !fits;
      count += fits;
    }
    output.textContent = `${count} of ${panels.length} queries`;
  }

  chosen.class.addEventListener("change", () => {
    // A class is looked for among all queries.
    if (chosen.class.value) form.querySelector("[name=kind][value='']").checked = true;
    show();
  });
  for (const button of form.querySelectorAll("[name=kind]")) {
    button.addEventListener("change", () => {
      if (chosen.kind.value) chosen.class.value = "";
      show();
    });
  }
  show();
}

function compareClasses(part) {
  const maps = JSON.parse(part.dataset.maps);
  const { one, other } = part.querySelector("form").elements;
  const output = part.querySelector("output");
  const drawings = [...part.querySelectorAll(".cells")];

  function show() {
    const row = one.selectedIndex;
    const column = other.selectedIndex;
    output.textContent = maps.map((map) => `${map.cells[row][column]} ${map.title}`).join(", ");
    for (const cells of drawings) {
      const cursor = cells.querySelector(".cell-cursor");
      const side = Number(cursor.getAttribute("width"));
      cursor.setAttribute("x", column * side);
      cursor.setAttribute("y", row * side);
    }
  }

  function point(event) {
    const cells = event.currentTarget;
    const side = Number(cells.querySelector(".cell-cursor").getAttribute("width"));
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(cells.getScreenCTM().inverse());
    const last = one.options.length - 1;
    one.selectedIndex = Math.max(0, Math.min(last, Math.floor(place.y / side)));
    other.selectedIndex = Math.max(0, Math.min(last, Math.floor(place.x / side)));
    show();
  }

  one.addEventListener("change", show);
  other.addEventListener("change", show);
  for (const cells of drawings) {
    cells.addEventListener("pointermove", point);
    cells.addEventListener("pointerdown", point);
  }
  show();
}

document.querySelectorAll("[data-chart]").forEach(followEpochs);
document.querySelectorAll(".filter").forEach((form) => {
  form.addEventListener("submit", (event) => event.preventDefault());
  if (form.elements.kind) filterQueries(form);
});
document.querySelectorAll("[data-maps]").forEach(compareClasses);
