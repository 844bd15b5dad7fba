// Texts for errors that tell a person what to do next. They depend on the package's error codes only.

export type Remedy = "retry" | "choose" | "without_copy" | "free_space" | "smaller_context" | "reload" | "settings" | "alone";

export interface Fault {
  code: string;
  title: string;
  /** What happened and what helps, for a person. */
  text: string;
  /** What the package said, for a report. */
  detail: string;
  remedies: Remedy[];
}

interface Known {
  title: string;
  text: string | ((fields: Fields) => string);
  remedies: Remedy[];
}

type Fields = Record<string, unknown>;

const mebibytes = (bytes: unknown): string =>
  typeof bytes === "number" && bytes > 0 ? `${Math.ceil(bytes / 2 ** 20).toLocaleString("en")} MiB` : "more memory than there is";

const KNOWN: Record<string, Known> = {
  no_webgpu: {
    title: "This browser offers no WebGPU",
    text:
      "The model runs on your graphics card through WebGPU. Chrome and Edge have it from version 113, Safari from 26, " +
      "Firefox from 141 on Windows and from 145 on Macs with Apple silicon. On Linux it may have to be switched on, and the graphics driver must be current. " +
      "Your conversations are still here to read.",
    remedies: ["retry"],
  },
  no_adapter: {
    title: "This browser finds no graphics card",
    text:
      "It has WebGPU, but no graphics card or driver that it can use. Update the graphics driver, or switch hardware acceleration on in the browser’s settings. " +
      "On Linux WebGPU may have to be switched on as well. Your conversations are still here to read.",
    remedies: ["retry"],
  },
  insecure: {
    title: "This address is not secure",
    text: "Browsers offer WebGPU only to pages from https or from this machine (localhost). Open this page from such an address.",
    remedies: [],
  },
  bad_model: {
    title: "This is not a model that can be opened",
    text: "A model is a GGUF file, or safetensors with config.json and tokenizer.json, of a supported architecture. A downloaded file may be incomplete; compare its size.",
    remedies: ["choose"],
  },
  bad_input: {
    title: "This is not a model that can be opened",
    text: "Choose one GGUF file, or the safetensors, config.json and tokenizer.json of one model together.",
    remedies: ["choose"],
  },
  cors: {
    title: "The server does not let this page read its files",
    text: "Only the server can allow that (CORS), as the Hugging Face hub does. Download the file yourself, and open it from your disk.",
    remedies: ["choose"],
  },
  csp: {
    title: "The policy of this page forbids it",
    text: ({ directive }) =>
      `Its Content-Security-Policy${typeof directive === "string" ? ` (${directive})` : ""} does not allow this. The host of the page can change that. A file from your disk may open.`,
    remedies: ["choose"],
  },
  trusted_types: {
    title: "The policy of this page forbids it",
    text: "Its Trusted Types do not allow the engine to start. The host of the page can change that.",
    remedies: ["reload"],
  },
  worker: {
    title: "The engine did not start",
    text: "A script of this page did not load. Reload the page. If that does not help, the host of the page has left out a file.",
    remedies: ["reload"],
  },
  http_status: {
    title: "The server did not give the model",
    text: ({ status }) =>
      status === 404
        ? "There is no file at this address (404). Check the address for a typing error."
        : status === 200
          ? "There is a web page at this address, not a model. Use the address of the file itself, which ends in .gguf or .safetensors."
        : status === 401 || status === 403
          ? `The server asks for permission (${status}). Download the file with your account and open it from your disk.`
          : "The server answered with an error. Try again later, or open the file from your disk.",
    remedies: ["retry", "choose"],
  },
  download: {
    title: "The download broke off",
    text: "The connection was lost, or there is no server at this address. This browser keeps what has arrived. Try again to resume.",
    remedies: ["retry", "choose"],
  },
  range_unsupported: {
    title: "The server cannot resume the download",
    text: "It does not serve parts of a file. Download the file yourself and open it from your disk.",
    remedies: ["choose"],
  },
  quota_exceeded: {
    title: "There is not enough space to keep the model",
    text: ({ asked, available }) =>
      `The browser allows this page ${typeof available === "number" ? `${mebibytes(available)} more` : "no more space"}` +
      `${typeof asked === "number" ? `, and ${mebibytes(asked)} are needed` : ""}. ` +
      "You can open the model without keeping it, which downloads it again next time. Or you can free space by clearing the cache.",
    remedies: ["without_copy", "free_space"],
  },
  out_of_memory: {
    title: "The graphics card ran out of memory",
    text: ({ bytes }) =>
      `It could not give ${mebibytes(bytes)}. Close other tabs that use it, choose a smaller model, or open this one with a shorter context.`,
    remedies: ["smaller_context", "choose"],
  },
  device_lost: {
    title: "The graphics card was lost",
    text: "The driver was reset or the machine slept, and the page could not recover. Nothing you wrote is lost.",
    remedies: ["retry", "reload"],
  },
  shader: {
    title: "This graphics driver refuses the model’s programs",
    text: "This is a fault in the driver or in this engine. A newer browser or driver may help. Please report the details below.",
    remedies: ["retry"],
  },
  pack_rejected: {
    title: "This prefix pack does not fit",
    text: "It was made for another model or setting, or it is damaged. Nothing was loaded from it.",
    remedies: [],
  },
  bad_request: {
    title: "The model could not be asked",
    text: "The model’s chat template refuses these messages, or a setting does not suit it. Change the settings, edit an earlier message, or begin a new conversation.",
    remedies: ["settings"],
  },
  changed: {
    title: "The file changed while it was downloaded",
    text: "The server sent another file halfway. Try again to download it from the start.",
    remedies: ["retry"],
  },
  storage: {
    title: "The browser’s storage failed",
    text: "It may be full, or switched off for this page. The model can be opened without keeping a copy.",
    remedies: ["without_copy", "retry"],
  },
  disposed: {
    title: "The model was closed",
    text: "Open it again to continue.",
    remedies: ["retry"],
  },
};

const UNKNOWN: Known = {
  title: "Something went wrong",
  text: "Trying again often helps. If it does not, please report the details below.",
  remedies: ["retry", "reload"],
};

export function faultOf(thrown: unknown): Fault {
  const fields: Fields = typeof thrown === "object" && thrown !== null ? (thrown as Fields) : {};
  const code = typeof fields.code === "string" ? fields.code : "internal";
  const { title, text, remedies } = KNOWN[code] ?? UNKNOWN;
  const reported = thrown instanceof Error ? thrown.message : typeof fields.message === "string" ? fields.message : String(thrown);
  // The engine's messages name the options of its command line, which a page has not.
  const detail = reported.replace(/--(?=[a-z])/g, "");
  return { code, title, text: typeof text === "string" ? text : text(fields), detail, remedies };
}

/** Whether nothing can be asked any more before the model is opened again. */
export const endsModel = ({ code }: Fault): boolean => code === "device_lost" || code === "disposed";

export const isAbort = (thrown: unknown): boolean =>
  typeof thrown === "object" && thrown !== null && ((thrown as Fields).code === "aborted" || (thrown as Fields).name === "AbortError");
