// All cell sets, below the names of their classes, as options of a list.
import { classes } from "./model";

export function SetOptions() {
  return (
    <>
      {classes.value.map((item) => (
        <optgroup key={item.key} label={item.name}>
          {item.children.map((set) => <option key={set.key} value={set.key}>{set.name}</option>)}
        </optgroup>
      ))}
    </>
  );
}
