// Line icons on a 16-pixel grid. They are decoration; the button around an icon has the name.

const PATHS = {
  plus: "M8 3v10M3 8h10",
  menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
  close: "M4 4l8 8M12 4l-8 8",
  send: "M8 13V3M3.5 7.5 8 3l4.5 4.5",
  stop: "M4.5 4.5h7v7h-7z",
  pencil: "M10.5 3 13 5.5 5.5 13H3v-2.5zM9 4.5 11.5 7",
  trash: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.5 8.5h6l.5-8.5",
  again: "M13 8a5 5 0 1 1-1.5-3.55M13 2.5v2.5h-2.5",
  copy: "M6 6h7v7H6zM10 6V3H3v7h3",
  check: "M3 8.5 6.5 12 13 4.5",
  gear: "M2.5 5h5M11 5h2.5M2.5 11h2.5M8.5 11h5M9.25 3.25a1.75 1.75 0 1 0 0 3.5 1.75 1.75 0 0 0 0-3.5zM6.75 9.25a1.75 1.75 0 1 0 0 3.5 1.75 1.75 0 0 0 0-3.5z",
  sun: "M8 5.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5zM8 1.5v1.5M8 13v1.5M1.5 8H3M13 8h1.5M3.4 3.4l1.05 1.05M11.55 11.55l1.05 1.05M12.6 3.4l-1.05 1.05M4.45 11.55 3.4 12.6",
  moon: "M13 9.5A5.5 5.5 0 1 1 6.5 3a4.5 4.5 0 0 0 6.5 6.5z",
  screen: "M2.5 3.5h11v7.5h-11zM6 13.5h4",
  down: "M8 3v10M3.5 8.5 8 13l4.5-4.5",
  chevron: "M6 4l4 4-4 4",
  file: "M4 2h5l3 3v9H4zM9 2v3h3",
  warning: "M8 2.5 14.5 13.5h-13zM8 6.5v3.5M8 11.75v.25",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function IconButton(props: {
  icon: IconName;
  label: string;
  onClick(event: MouseEvent): void;
  class?: string;
  disabled?: boolean;
  expanded?: boolean;
  id?: string;
}) {
  const { icon, label, onClick, expanded, disabled, id } = props;
  return (
    <button
      type="button"
      id={id}
      class={`icon-button ${props.class ?? ""}`}
      aria-label={label}
      title={label}
      aria-expanded={expanded}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
