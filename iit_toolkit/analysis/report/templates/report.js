"use strict";
(() => {
  // Tables: a button in every heading sorts by its column; undefined values come last.
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (one, two) =>
    typeof one === "number" && typeof two === "number" ? one - two : String(one).localeCompare(String(two));
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const order = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const sort = (head, column, direction) => {
      const known = order.filter((row) => key(row, column) !== null);
      const unknown = order.filter((row) => key(row, column) === null);
      known.sort((one, two) => direction * compare(key(one, column), key(two, column)));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      body.append(...known, ...unknown);
    };
    heads.forEach((head, column) => {
      if (head.classList.contains("unsorted")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      button.addEventListener("click", () =>
        sort(head, column, head.getAttribute("aria-sort") === "descending" ? 1 : -1));
      head.append(button);
    });
  }

  // Cases: shown where choice, variable, place and text fit.
  const form = document.getElementById("cases-filter");
  if (form) {
    const cases = [...document.querySelectorAll("#cases-list > li")];
    const count = document.getElementById("cases-count");
    const none = document.getElementById("cases-none");
    const filter = () => {
      const { chosen, variable, place, words } = form.elements;
      const wanted = words.value.trim().toLowerCase();
      let shown = 0;
      for (const one of cases) {
        const fits =
          (chosen.value === "" || one.dataset.chosen === chosen.value) &&
          (variable.value === "" || one.dataset.variable === variable.value) &&
          (!place || place.value === "" || one.dataset.place === place.value) &&
          (wanted === "" || one.textContent.toLowerCase().includes(wanted));
        one.hidden = !fits;
        shown += fits ? 1 : 0;
      }
      count.textContent = `${shown} of ${cases.length} shown`;
      none.hidden = shown > 0;
    };
    form.hidden = false;
    form.addEventListener("input", filter);
    form.addEventListener("reset", () => setTimeout(filter));
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }

  // Printing opens what is folded.
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details.printed")) one.open = true;
  });
})();
