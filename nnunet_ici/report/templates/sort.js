// Sort a table when a column title is pressed: ascending first, then descending. "-" always comes last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const titles = table.tHead.rows[table.tHead.rows.length - 1].cells;
  Array.from(titles).forEach((title, column) => {
    const button = document.createElement("span"); // a <button> would not be repeated on the pages of a printed table
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.append(...title.childNodes);
    title.append(button);
    const sort = () => {
      const sign = title.ariaSort === "ascending" ? -1 : 1;
      for (const other of titles) other.removeAttribute("aria-sort");
      title.ariaSort = sign > 0 ? "ascending" : "descending";
      const text = (row) => row.cells[column].textContent.trim();
      const compare = (one, other) => {
        const a = parseFloat(text(one)), b = parseFloat(text(other));
        if (column < Number(table.dataset.names)) return sign * text(one).localeCompare(text(other), "en", { numeric: true });
        if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
        return sign * (a - b);
      };
      body.append(...Array.from(body.rows).sort(compare));
    };
    button.addEventListener("click", sort);
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort();
    });
  });
}
