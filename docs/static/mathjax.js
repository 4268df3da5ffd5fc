// Draws the formulas of a page with the copy of MathJax on this site, as SVG, which needs no fonts.
if (document.querySelector(".arithmatex")) {
  window.MathJax = {
    tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
    svg: { scale: 0.92 },
    options: { ignoreHtmlClass: ".*", processHtmlClass: "arithmatex", enableMenu: false },
  };
  const script = document.createElement("script");
  script.src = new URL("mathjax/tex-svg.js", document.currentScript.src);
  document.head.append(script);
}
