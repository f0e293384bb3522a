/**
 * Ask for much memory at once and never touch it: browsers then free what nobody needs any more,
 * here copies of the weights. Without it a tab takes 60 MB more at its peak.
 */
export function sweep() {
  try { new ArrayBuffer(1 << 27); } catch { /* too little left to ask: nothing is freed */ }
}
