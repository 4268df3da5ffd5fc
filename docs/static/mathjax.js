// Draws the formulas of a page, with the MathJax beside this file: nothing comes from elsewhere.
if (document.querySelector(".arithmatex")) {
  window.MathJax = {
    jax: ["input/TeX", "output/SVG"],
    extensions: ["tex2jax.js", "AssistiveMML.js"],
    TeX: { extensions: ["AMSmath.js", "AMSsymbols.js"] },
    tex2jax: {
      inlineMath: [["\\(", "\\)"]],
      displayMath: [["\\[", "\\]"]],
      ignoreClass: ".*|",
      processClass: "arithmatex",
    },
    messageStyle: "none",
    showMathMenu: false,
  };
  const script = document.createElement("script");
  script.src = new URL("assets/mathjax/MathJax.js", document.currentScript.src);
  document.head.append(script);
}
