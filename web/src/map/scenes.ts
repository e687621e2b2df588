// The scenes that are on the page, by the map's id: for pictures of them.
import type { Scene } from "./scene";

export const sceneOf = new Map<number, Scene>();
