// Declarations that the README's samples assume: names of earlier samples, and packages that are not installed here.
declare const Headstart: typeof import("headstart").Headstart;
declare const headstart: import("headstart").HeadstartInterface;
declare const options: Required<import("headstart").CreateOptions>;
declare const process: { argv: string[]; stdout: { write(text: string): void } };

declare module "ai" {
  export function streamText(options: { model: import("@ai-sdk/provider").LanguageModelV4; prompt: string }): { textStream: AsyncIterable<string> };
}
