import { useState } from "preact/hooks";
import { useApp } from "../state/app";
import { IconButton } from "./icons";

export function CopyButton({ text, label }: { text: string; label: string }) {
  const { notices } = useApp();
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      notices.say("Copied.");
      setCopied(true);
      setTimeout(() => setCopied(false), 1500);
    } catch {
      notices.show({ text: "The browser does not let this page write to the clipboard." });
    }
  };
  return <IconButton icon={copied ? "check" : "copy"} label={label} onClick={() => void copy()} />;
}
