// What a reader sees of the report: returned to the test as one object.
const colour = text => text.match(/[\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255)
  .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const behind = element => {
  for (let at = element; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const texts = [...document.body.querySelectorAll('*')].filter(element =>
  !['STYLE', 'SCRIPT'].includes(element.tagName) &&
  [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
const seen = texts.map(element => {
  const drawn = element instanceof SVGElement;
  const style = getComputedStyle(element);
  const scale = drawn ? Math.hypot(element.getScreenCTM().a, element.getScreenCTM().b) : 1;
  return {
    text: element.textContent.slice(0, 40),
    size: parseFloat(style.fontSize) * scale,
    contrast: contrast(colour(drawn ? style.fill : style.color), behind(element)),
  };
});
const plots = [...document.querySelectorAll('figure > svg')];
const clashes = [];
for (const plot of plots) {
  const frame = plot.getBoundingClientRect();
  const boxes = [...plot.querySelectorAll('text')].map(text =>
    [text.textContent, text.getBoundingClientRect()]);
  boxes.forEach(([text, box], index) => {
    if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
        box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      clashes.push(`${text} leaves its plot`);
    for (const [other, its] of boxes.slice(index + 1))
      if (box.left < its.right - 1 && its.left < box.right - 1 &&
          box.top < its.bottom - 3 && its.top < box.bottom - 3)
        clashes.push(`${text} lies on ${other}`);
  });
}
const lines = [...document.querySelectorAll('figure > svg .line, figure > svg .bar')];
return {
  width: innerWidth,
  page: document.documentElement.scrollWidth,
  plots: plots.map(plot => {
    const { width, height } = plot.getBoundingClientRect();
    return { width, height, marks: plot.querySelectorAll('.line, .bar').length };
  }),
  smallest: seen.reduce((least, one) => one.size < least.size ? one : least),
  faintest: seen.reduce((least, one) => one.contrast < least.contrast ? one : least),
  faintestLine: Math.min(...lines.map(line => contrast(colour(getComputedStyle(line).stroke), behind(line)))),
  clashes,
  fetched: performance.getEntriesByType('resource').map(entry => entry.name),
};
