// The paper is as wide as the page on the screen, in the shape of A4: charts and tables keep the
// width that they were drawn in, and nothing is cut.
window.onbeforeprint = () => {
  const page =
    document.querySelector(".st-key-main") ??
    document.querySelector('[data-testid="stMainBlockContainer"]');
  const margin = 32;
  const width = Math.max(720, page?.clientWidth ?? 0) + 2 * margin;
  const height = Math.round(Math.SQRT2 * width);
  const paper = document.getElementById("paper") ?? document.createElement("style");
  paper.id = "paper";
  paper.textContent = `@page { size: ${width}px ${height}px; margin: ${margin}px }`;
  document.head.append(paper);
};
