// Copies the files that a person opened from disk, so that the next visit opens them again. The copies are in a folder of the origin
// private file system. An incomplete copy has a file without bytes. Without room there is no copy.

const FOLDER = "headstart-demo";

export class Copies {
  async keep(files: readonly File[]): Promise<void> {
    await this.forget();
    try {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create: true });
      const copies = await Promise.all(files.map(({ name }) => folder.getFileHandle(name, { create: true })));
      for (const [index, file] of files.entries()) await file.stream().pipeTo(await copies[index]!.createWritable());
    } catch {
      await this.forget();
    }
  }

  /** Empty where nothing is kept. A file whose copying was cut short has no bytes, and then there is no model. */
  async files(): Promise<File[]> {
    const found: File[] = [];
    try {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER);
      for await (const entry of folder.values()) if (entry.kind === "file") found.push(await (entry as FileSystemFileHandle).getFile());
    } catch {
      return [];
    }
    return found.every(({ size }) => size > 0) ? found : [];
  }

  async forget(): Promise<void> {
    try {
      await (await navigator.storage.getDirectory()).removeEntry(FOLDER, { recursive: true });
    } catch {
      // There was none.
    }
  }
}
