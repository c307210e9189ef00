// Draws the formulas of a page; they arrive as \( ... \) and \[ ... \].
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    renderMathInElement(element, {throwOnError: false});
  }
});
