/** The part of Node that `headstart/node` uses. It is declared here so that code for pages cannot use the rest. */

declare module "node:crypto" {
  export function createHash(algorithm: "sha256"): { update(bytes: Uint8Array | string): void; digest(encoding: "hex"): string };
}

declare module "node:fs" {
  export function existsSync(path: string): boolean;
  export function openAsBlob(path: string): Promise<Blob>;
}

declare module "node:fs/promises" {
  export interface FileHandle {
    read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
    writeFile(data: Uint8Array): Promise<void>;
    datasync(): Promise<void>;
    stat(): Promise<Stats>;
    stat(options: { bigint: true }): Promise<{ size: bigint; mtimeNs: bigint; ctimeNs: bigint; dev: bigint; ino: bigint }>;
    close(): Promise<void>;
  }
  export interface Stats {
    mode: number;
    uid: number;
    size: number;
    mtimeMs: number;
    isFile(): boolean;
    isDirectory(): boolean;
  }
  export interface Dirent {
    name: string;
    isFile(): boolean;
    isDirectory(): boolean;
  }
  export function chmod(path: string, mode: number): Promise<void>;
  export function link(from: string, to: string): Promise<void>;
  export function mkdir(path: string, options: { recursive: true; mode: number }): Promise<string | undefined>;
  export function open(path: string, flags: string, mode?: number): Promise<FileHandle>;
  export function readFile(path: string | URL): Promise<Uint8Array<ArrayBuffer>>;
  export function readdir(path: string): Promise<string[]>;
  export function readdir(path: string, options: { withFileTypes: true }): Promise<Dirent[]>;
  export function rename(from: string, to: string): Promise<void>;
  export function rm(path: string, options: { recursive?: boolean; force?: boolean }): Promise<void>;
  export function stat(path: string): Promise<Stats>;
  export function statfs(path: string): Promise<{ bavail: number; bsize: number }>;
  export function unlink(path: string): Promise<void>;
}

declare module "node:os" {
  export function homedir(): string;
}

declare module "node:path" {
  export function basename(path: string): string;
  export function dirname(path: string): string;
  export function isAbsolute(path: string): boolean;
  export function join(...parts: string[]): string;
  export function resolve(path: string): string;
}

declare module "node:process" {
  const process: { env: Record<string, string | undefined>; platform: string; versions: { node: string }; geteuid?(): number };
  export default process;
}

declare module "node:url" {
  export function fileURLToPath(url: string | URL): string;
  export function pathToFileURL(path: string): URL;
}
