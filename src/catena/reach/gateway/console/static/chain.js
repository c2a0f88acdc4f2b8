// The picture of a chain: five interlocked links, each whole, broken or dashed as it was verified, failed, not recorded.
import { h, icon, svg } from "./dom.js";
import { t } from "./i18n.js";

export const STAGES = ["built", "stored", "run", "reached", "watched"];
export const STATE_ICON = { verified: "check", failed: "cross", not_recorded: "dash", waiting: "wait" };

const LINK_WIDTH = 148;
const LINK_HEIGHT = 68;
const RADIUS = LINK_HEIGHT / 2;
const STEP = 116;
const TOP = 10;
const PLACES = { wide: TOP + LINK_HEIGHT + 30 };

/** One ring as a path that starts at its top left, so that a broken one can be opened at the top. */
function ring(x, isBroken) {
  const right = x + LINK_WIDTH - RADIUS;
  const left = x + RADIUS;
  const middle = x + LINK_WIDTH / 2;
  const bottom = TOP + LINK_HEIGHT;
  const ends = `A${RADIUS} ${RADIUS} 0 0 1 ${right} ${bottom} H${left} A${RADIUS} ${RADIUS} 0 0 1 ${left} ${TOP}`;
  if (!isBroken) return `M${left} ${TOP} H${right} ${ends} Z`;
  return `M${middle + 16} ${TOP - 4} L${right} ${TOP} ${ends} L${middle - 12} ${TOP + 5}`;
}

/** The lower right of a ring, drawn again over the next ring, which makes the two interlock. Angles in degrees. */
function overpass(x, from, to) {
  const centreX = x + LINK_WIDTH - RADIUS;
  const centreY = TOP + RADIUS;
  const point = (degrees) => {
    const angle = (degrees * Math.PI) / 180;
    return `${(centreX + RADIUS * Math.cos(angle)).toFixed(2)} ${(centreY + RADIUS * Math.sin(angle)).toFixed(2)}`;
  };
  return `M${point(from)} A${RADIUS} ${RADIUS} 0 0 1 ${point(to)}`;
}

function sign(state, x, y) {
  const shapes = { verified: "M-8 0.5 L-2.5 6 L8 -5.5", failed: "M-6.5 -6.5 L6.5 6.5 M6.5 -6.5 L-6.5 6.5", not_recorded: "M-7 0 H7" };
  return svg("path", { class: "chain-sign", d: shapes[state] || "M-7 0 H-6.9 M0 0 H0.1 M7 0 H7.1", transform: `translate(${x} ${y})` });
}

/** An image of `links` ({stage, state} in the order of the chain), described in words for those who cannot see it. */
export function chainPicture(links) {
  const width = STEP * (links.length - 1) + LINK_WIDTH + 12;
  const xOf = (index) => 6 + index * STEP;
  const layers = links.map(({ stage, state }, index) => {
    const x = xOf(index);
    const middle = x + LINK_WIDTH / 2;
    const path = ring(x, state === "failed");
    return svg(
      "g",
      { class: `chain-link ${state}` },
      svg("path", { class: "chain-gap", d: path }),
      svg("path", { class: "chain-ring", d: path }),
      sign(state, middle, TOP + RADIUS),
      svg("text", { class: "chain-name", x: middle, y: PLACES.wide, "text-anchor": "middle" }, t(`stage.${stage}`)),
    );
  });
  const overpasses = links.slice(0, -1).map(({ state }, index) => svg(
    "g",
    { class: `chain-link ${state}` },
    svg("path", { class: "chain-gap over", d: overpass(xOf(index), 40, 76) }),
    svg("path", { class: "chain-ring over", d: overpass(xOf(index), 34, 82) }),
  ));
  const said = links.map(({ stage, state }) => `${t(`stage.${stage}`)}: ${t(`state.${state}`)}`).join("; ");
  const picture = svg(
    "svg",
    { class: "chain", viewBox: `0 0 ${width} ${PLACES.wide + 8}`, role: "img", "aria-label": `${t("chain.label")} ${said}` },
    layers,
    overpasses,
  );
  return h("div", { class: "chain-picture" }, picture);
}

/** A state as colour, sign and word. */
export function badge(state) {
  return h("span", { class: `badge ${state}` }, icon(STATE_ICON[state] || "wait"), h("span", { say: `state.${state}` }));
}
