// LaTeX as MathML, which the browser sets with its own fonts. The parser's tree becomes elements one by one, through lists of
// what may appear: no markup is parsed, and nothing is fetched.

import temml from "temml";

interface Tree {
  type?: string;
  text?: string;
  attributes?: Record<string, unknown>;
  classes?: string[];
  style?: Record<string, unknown>;
  children?: Tree[];
}

const NAMESPACE = "http://www.w3.org/1998/Math/MathML";
const ELEMENTS = new Set(
  "math mrow mi mn mo mtext ms mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mmultiscripts mprescripts none mtable mtr mtd mstyle mpadded mphantom menclose merror".split(" "),
);
const ATTRIBUTES = new Set(
  (
    "display displaystyle scriptlevel mathvariant stretchy fence separator form lspace rspace minsize maxsize width height depth voffset linethickness " +
    "rowspacing rowlines rowalign rowspan columnspacing columnlines columnalign columnspan accent accentunder movablelimits largeop symmetric notation mathcolor"
  ).split(" "),
);
const STYLES = /^(color|borderColor|border(Top|Right|Bottom|Left)?|padding(Top|Right|Bottom|Left)?|margin(Top|Right|Bottom|Left)?|textAlign|verticalAlign|width|height|lineHeight|font(Weight|Style|Size|Family)|mathStyle|mathDepth|mathShift|display|whiteSpace)$/;
/** What a text may ask for: a size beyond it would push the page about. */
const LIMITS = { maxSize: [10, 10] as [number, number], maxExpand: 200 };

/** @throws where `tex` is not LaTeX that can be set */
export function formula(tex: string, displayMode: boolean): Node {
  const tree = temml.__renderToMathMLTree(tex, { displayMode, trust: false, ...LIMITS }) as Tree;
  if (tree.type !== "math") throw new Error("this is no formula");
  return node(tree);
}

function node(tree: Tree): Node {
  if (tree.text !== undefined) return document.createTextNode(tree.text);
  const inner = (tree.children ?? []).map(node);
  if (tree.type === undefined || !ELEMENTS.has(tree.type)) {
    const fragment = document.createDocumentFragment();
    fragment.append(...inner);
    return fragment;
  }
  const element = document.createElementNS(NAMESPACE, tree.type) as MathMLElement;
  for (const [name, value] of Object.entries(tree.attributes ?? {})) if (ATTRIBUTES.has(name)) element.setAttribute(name, String(value));
  if (tree.classes?.length) element.setAttribute("class", tree.classes.join(" "));
  const style = element.style as unknown as Record<string, string>;
  for (const [name, value] of Object.entries(tree.style ?? {})) if (STYLES.test(name) && !/url\(/i.test(String(value))) style[name] = String(value);
  element.append(...inner);
  return element;
}
