import { type ComponentType, Component, type FunctionComponent, h } from "preact";

/** A component that renders again only where a prop changed. */
export function memo<P extends object>(render: FunctionComponent<P>): ComponentType<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const old = this.props as Record<string, unknown>;
      return Object.entries(next).some(([name, value]) => old[name] !== value);
    }
    override render() {
      return h(render, this.props as P);
    }
  };
}
