// Draws points with WebGL 2: one buffer of places, one of colours, one of the order in which they are drawn.
// Recolouring sends four bytes per cell and draws once; nothing else is recomputed.

import { Backdrop } from "./backdrop";
import { compile } from "./shader";

const VERTEX = `#version 300 es
in vec2 place; in vec4 paint;
uniform vec2 scale, shift; uniform float size;
out vec4 colour;
void main() {
  gl_Position = vec4(place * scale + shift, 0.0, 1.0);
  if (paint.a == 0.0) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = size; colour = paint;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour; uniform float opacity, edge; out vec4 pixel;
void main() {
  float d = length(gl_PointCoord - 0.5) * 2.0;
  float alpha = colour.a * opacity * (1.0 - smoothstep(1.0 - edge, 1.0, d));
  pixel = vec4(colour.rgb * alpha, alpha);
}`;

export interface Frame {
  /** Clip coordinates are ``place * scale + shift``. */
  readonly scale: readonly [number, number];
  readonly shift: readonly [number, number];
  /** Diameter of a point in device pixels. */
  readonly size: number;
  readonly opacity: number;
  readonly background: readonly [number, number, number];
  /** Draw only every n-th point, while the map moves. */
  readonly coarse: boolean;
  /** Opacity of the image under the points. */
  readonly backdrop: number;
}

/** The n of drawing only every n-th point while a large map moves. */
const COARSE_STEP = 8;

export class Scatter {
  private readonly gl: WebGL2RenderingContext;
  private readonly program: WebGLProgram;
  private readonly buffers: Record<"place" | "paint" | "order" | "coarse", WebGLBuffer>;
  private readonly uniforms: Record<string, WebGLUniformLocation | null> = {};
  private readonly array: WebGLVertexArrayObject;
  private counts = { order: 0, coarse: 0 };
  private behind: Backdrop | null = null;

  constructor(readonly canvas: HTMLCanvasElement | OffscreenCanvas) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false }) as WebGL2RenderingContext | null;
    if (!gl) throw new Error("This browser has no WebGL 2, which draws the map. Firefox, Chrome, Edge and Safari have it.");
    this.gl = gl;
    const program = gl.createProgram() as WebGLProgram;
    gl.attachShader(program, compile(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compile(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.bindAttribLocation(program, 0, "place");
    gl.bindAttribLocation(program, 1, "paint");
    gl.linkProgram(program);
    this.program = program;
    for (const name of ["scale", "shift", "size", "opacity", "edge"]) {
      this.uniforms[name] = gl.getUniformLocation(program, name);
    }
    const make = () => gl.createBuffer() as WebGLBuffer;
    this.buffers = { place: make(), paint: make(), order: make(), coarse: make() };
    this.array = gl.createVertexArray() as WebGLVertexArrayObject;
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.place);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.paint);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, 0, 0);
  }

  /** Sets the places, x and y in turn. */
  places(values: Float32Array): void {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.place);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
  }

  /** Sets the colours, four bytes a point. */
  colours(values: Uint32Array): void {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers.paint);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
  }

  /** Sets the order in which points are drawn: the last lie on top. */
  order(values: Uint32Array): void {
    const { gl } = this;
    const coarse = new Uint32Array(Math.ceil(values.length / COARSE_STEP));
    for (let i = 0; i < coarse.length; i++) coarse[i] = values[i * COARSE_STEP];
    for (const [name, content] of [["order", values], ["coarse", coarse]] as const) {
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers[name]);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, content, gl.STATIC_DRAW);
      this.counts[name] = content.length;
    }
  }

  /** Sets the image under the points; null takes it away. */
  backdrop(image: HTMLImageElement | null): void {
    this.behind?.dispose();
    this.behind = image && new Backdrop(this.gl, image);
  }

  draw(frame: Frame): void {
    const { gl, uniforms } = this;
    const which = frame.coarse ? "coarse" : "order";
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(frame.background[0], frame.background[1], frame.background[2], 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    this.behind?.draw(frame, frame.backdrop);
    if (!this.counts[which]) return;
    gl.useProgram(this.program);
    gl.bindVertexArray(this.array);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.uniform2f(uniforms.scale, frame.scale[0], frame.scale[1]);
    gl.uniform2f(uniforms.shift, frame.shift[0], frame.shift[1]);
    gl.uniform1f(uniforms.size, frame.size);
    gl.uniform1f(uniforms.opacity, frame.opacity);
    gl.uniform1f(uniforms.edge, Math.min(1, 2.4 / frame.size));
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers[which]);
    gl.drawElements(gl.POINTS, this.counts[which], gl.UNSIGNED_INT, 0);
  }

  dispose(): void {
    const { gl, buffers } = this;
    this.behind?.dispose();
    for (const buffer of Object.values(buffers)) gl.deleteBuffer(buffer);
    gl.deleteVertexArray(this.array);
    gl.deleteProgram(this.program);
    gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}
