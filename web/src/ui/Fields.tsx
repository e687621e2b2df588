// Labelled fields of the panels.
interface NumberProps {
  readonly label: string;
  readonly value: number;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly onChange: (value: number) => void;
}

export function NumberField({ label, value, min, max, step, onChange }: NumberProps) {
  return (
    <label class="field">
      <span>{label}</span>
      <input type="range" min={min} max={max} step={step} value={value} aria-label={`${label}, slider`} onInput={(event) => onChange(event.currentTarget.valueAsNumber)} />
      <input
        type="number" min={min} max={max} step={step} value={value} aria-label={label}
        onChange={(event) => Number.isFinite(event.currentTarget.valueAsNumber) && onChange(event.currentTarget.valueAsNumber)}
      />
    </label>
  );
}

interface ChoiceProps<T extends string> {
  readonly label: string;
  readonly value: T;
  readonly options: readonly (readonly [T, string])[];
  readonly onChange: (value: T) => void;
}

export function Choice<T extends string>({ label, value, options, onChange }: ChoiceProps<T>) {
  return (
    <label class="field">
      <span>{label}</span>
      <select aria-label={label} value={value} onChange={(event) => onChange(event.currentTarget.value as T)}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

export function Segments<T extends string>({ label, value, options, onChange }: ChoiceProps<T>) {
  return (
    <div class="seg" role="group" aria-label={label}>
      {options.map(([key, text]) => (
        <button key={key} class={key === value ? "on" : ""} aria-pressed={key === value} onClick={() => onChange(key)}>
          {text}
        </button>
      ))}
    </div>
  );
}

export function Tabs<T extends string>({ label, value, options, onChange }: ChoiceProps<T>) {
  // arrows move among the tabs, as everywhere; the row is one stop of the Tab key
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = (options.findIndex(([key]) => key === value) + step + options.length) % options.length;
    onChange(options[at][0]);
    (event.currentTarget as Element).querySelectorAll("button")[at].focus();
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={move}>
      {options.map(([key, text]) => (
        <button key={key} role="tab" aria-selected={key === value} tabIndex={key === value ? 0 : -1} class={key === value ? "on" : ""} onClick={() => onChange(key)}>
          {text}
        </button>
      ))}
    </div>
  );
}
