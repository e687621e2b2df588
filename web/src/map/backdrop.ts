// The image of a tissue under the points: one textured rectangle, drawn before them in the same canvas.
import { compile } from "./shader";

const VERTEX = `#version 300 es
in vec2 corner; uniform vec2 size, scale, shift; out vec2 at;
void main() {
  at = corner;
  gl_Position = vec4(vec2(corner.x, -corner.y) * size * scale + shift, 0.0, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec2 at; uniform sampler2D image; uniform float opacity; out vec4 pixel;
void main() { pixel = vec4(texture(image, at).rgb * opacity, opacity); }`;
const CORNERS = new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]);

export interface View {
  readonly scale: readonly [number, number];
  readonly shift: readonly [number, number];
}

/** Draws one image whose pixel (0, 0) lies at the map's (0, 0), and pixel (x, y) at (x, -y). */
export class Backdrop {
  private readonly program: WebGLProgram;
  private readonly array: WebGLVertexArrayObject;
  private readonly corners: WebGLBuffer;
  private readonly texture: WebGLTexture;
  private readonly size: readonly [number, number];

  constructor(private readonly gl: WebGL2RenderingContext, image: HTMLImageElement) {
    const program = gl.createProgram() as WebGLProgram;
    gl.attachShader(program, compile(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compile(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.bindAttribLocation(program, 0, "corner");
    gl.linkProgram(program);
    this.program = program;
    this.size = [image.naturalWidth, image.naturalHeight];
    this.array = gl.createVertexArray() as WebGLVertexArrayObject;
    this.corners = gl.createBuffer() as WebGLBuffer;
    gl.bindVertexArray(this.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corners);
    gl.bufferData(gl.ARRAY_BUFFER, CORNERS, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.bindVertexArray(null);
    this.texture = gl.createTexture() as WebGLTexture;
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, fitting(gl, image));
    for (const edge of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, edge, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  }

  draw({ scale, shift }: View, opacity: number): void {
    const { gl, program } = this;
    gl.useProgram(program);
    gl.bindVertexArray(this.array);
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.uniform2f(gl.getUniformLocation(program, "size"), this.size[0], this.size[1]);
    gl.uniform2f(gl.getUniformLocation(program, "scale"), scale[0], scale[1]);
    gl.uniform2f(gl.getUniformLocation(program, "shift"), shift[0], shift[1]);
    gl.uniform1f(gl.getUniformLocation(program, "opacity"), opacity);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.bindVertexArray(null);
  }

  dispose(): void {
    const { gl } = this;
    gl.deleteTexture(this.texture);
    gl.deleteBuffer(this.corners);
    gl.deleteVertexArray(this.array);
    gl.deleteProgram(this.program);
  }
}

/** Returns the image, scaled down where it exceeds the graphics card's limit. */
function fitting(gl: WebGL2RenderingContext, image: HTMLImageElement): HTMLImageElement | HTMLCanvasElement {
  const limit = gl.getParameter(gl.MAX_TEXTURE_SIZE) as number;
  const share = Math.min(1, limit / Math.max(image.naturalWidth, image.naturalHeight));
  if (share === 1) return image;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(image.naturalWidth * share));
  canvas.height = Math.max(1, Math.floor(image.naturalHeight * share));
  (canvas.getContext("2d") as CanvasRenderingContext2D).drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}
