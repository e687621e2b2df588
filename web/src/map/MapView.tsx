// One map: its canvas, what lies over it, its title, tools, legend.
import { effect, useComputed, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { mapPoints } from "../data/points";
import { tissuePixels } from "../data/tissues";
import { hoveredSet, select, selection } from "../state/selection";
import { dark } from "../state/theme";
import { update, view, type MapState } from "../state/view";
import { Failure, Waiting } from "../ui/States";
import { clickOnMap } from "../analyses/trajectory";
import { fit, isFitted, type Size } from "./camera";
import { handle } from "./gestures";
import { handleKeys, SAID } from "./keys";
import { Legend } from "./Legend";
import { MapTitle } from "./MapTitle";
import { MapTools } from "./MapTools";
import { Overlay } from "./Overlay";
import { paintOf, colourTitle } from "./paint";
import { cameraOf, Scene } from "./scene";
import { sceneOf } from "./scenes";
import { Tip } from "./Tip";
import type { Corner } from "./lasso";

const BACKGROUND = { light: "#f6f7f9", dark: "#12161c" } as const;

function emphasis() {
  return {
    hidden: new Set(view.value.hidden),
    selected: selection.value?.mask ?? null,
    hovered: hoveredSet.value,
    dark: dark.value,
  };
}

export function MapView({ map, first }: { map: MapState; first: boolean }) {
  const host = useRef<HTMLElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const scene = useRef<Scene | null>(null);
  const [size, setSize] = useState<Size | null>(null);
  const [broken, setBroken] = useState("");
  const drawing = useSignal<readonly Corner[] | null>(null);
  const mark = useSignal<Corner | null>(null);
  const points = useMemo(() => mapPoints(map.source), [JSON.stringify(map.source)]);
  const paint = useMemo(() => paintOf(map.colour), [JSON.stringify(map.colour)]);
  const camera = useMemo(() => cameraOf(map.source), [JSON.stringify(map.source)]);
  // while the next colours load, the last ones stay
  const last = useRef<ReturnType<typeof paintOf>["value"] | null>(null);
  const now = paint.value;
  if (now.state === "ready") last.current = now;
  const shownPaint = last.current?.state === "ready" ? last.current.value : null;
  const place = points.value;
  const shownPoints = place.state === "ready" ? place.value : null;

  useEffect(() => {
    const made = new Scene(canvas.current as HTMLCanvasElement);
    try {
      made.start();
    } catch (error) {
      setBroken((error as Error).message);
      return undefined;
    }
    scene.current = made;
    sceneOf.set(map.id, made);
    const watcher = new ResizeObserver(([entry]) => {
      const { width, height } = entry.contentRect;
      made.resize({ width, height });
      setSize({ width, height });
    });
    watcher.observe(host.current as HTMLElement);
    return () => {
      watcher.disconnect();
      sceneOf.delete(map.id);
      made.stop();
    };
  }, [map.id]);

  useEffect(() => {
    const before = camera.peek();
    if (shownPoints && size && (!before || isFitted(before))) camera.value = fit(shownPoints, size);
  }, [shownPoints, size, camera]);

  useEffect(() => {
    if (!shownPoints || !shownPaint) return undefined;
    return effect(() => scene.current?.show(shownPoints, shownPaint, emphasis()));
  }, [shownPoints, shownPaint, size !== null]);

  useEffect(
    () =>
      effect(() => {
        const { pointSize, opacity, tissueOpacity } = view.value;
        scene.current?.lookFrom(camera.value, { pointSize, opacity, backdrop: tissueOpacity, background: BACKGROUND[dark.value ? "dark" : "light"] });
      }),
    [camera, size !== null],
  );

  const pixels = map.source.kind === "tissue" ? tissuePixels(map.source.image) : null;
  const picture = pixels?.value.state === "ready" ? pixels.value.value : null;
  useEffect(() => scene.current?.backdrop(picture), [picture, size !== null]);

  useEffect(() => {
    if (!scene.current || !host.current) return undefined;
    const surface = canvas.current as HTMLCanvasElement;
    const clicked = (at: Corner) => {
      update({ active: map.id });
      if (!clickOnMap(map.source, at, 10 / (camera.peek()?.zoom ?? 1)) && selection.peek()) select(null);
    };
    const hands = { camera, drawing, points: () => shownPoints, mapId: map.id, clicked };
    const endings = [handle(surface, scene.current, hands), handleKeys(surface, scene.current, hands, mark)];
    return () => endings.forEach((end) => end());
  }, [camera, shownPoints, size !== null]);

  const many = useComputed(() => view.value.maps.length > 1);
  const described = `Map of the cells, ${colourTitle(map.colour)} as colour`;
  const active = many.value && view.value.active === map.id;
  return (
    <section ref={host} class={`map ${active ? "active" : ""} tool-${view.value.tool}`} aria-label={described}>
      <canvas ref={canvas} role="application" aria-label={`${described}. ${SAID}`} tabIndex={0} onFocus={() => update({ active: map.id })} data-map={map.id} />
      {size && camera.value && shownPoints && shownPaint && (
        <Overlay mapId={map.id} source={map.source} camera={camera.value} size={size} points={shownPoints} paint={shownPaint} drawing={drawing} mark={mark} />
      )}
      <MapTitle map={map} />
      <MapTools map={map} first={first} camera={camera} refit={() => shownPoints && size && (camera.value = fit(shownPoints, size))} />
      {shownPaint && <Legend paint={shownPaint} />}
      {size && camera.value && shownPoints && <Tip map={map} camera={camera.value} size={size} points={shownPoints} paint={shownPaint} />}
      {broken && <Failure message={broken} />}
      {place.state === "loading" && !broken && <Waiting text={map.source.kind === "saved" ? "Reading the map" : "Computing the map"} />}
      {place.state === "failed" && <Failure message={place.message} />}
      {pixels?.value.state === "failed" && place.state === "ready" && <Failure message={`The image of the tissue cannot be shown. ${pixels.value.message}`} small />}
      {now.state === "failed" && place.state === "ready" && <Failure message={now.message} small />}
      {shownPoints && !shownPoints.placed.length && <Failure message="No cell has a place on this map. Choose another map in its title." />}
    </section>
  );
}
