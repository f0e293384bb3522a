/**
 * torch.Generator().manual_seed(seed) and torch.randn in JavaScript, so that a seed gives the
 * notebooks' start noise: Mersenne Twister (Matsumoto and Nishimura 1998), then Box-Muller in
 * blocks of 16, cosines before sines. Other Gaussian generators give other pictures for a seed.
 */

/** Uniform numbers in [0, 1) from the low 24 bits of each draw. @param {number} seed */
function uniforms(seed) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let i = 1; i < 624; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  let at = 624;
  return () => {
    if (at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return (y & 0xffffff) / 2 ** 24;
  };
}

/**
 * A source of Gaussian noise that goes on where it stopped.
 * @param {number} seed from 0 to 2^32 - 1 @returns {(count: number) => Float32Array}
 */
export function gaussian(seed) {
  const uniform = uniforms(seed);
  return (count) => {
    if (count % 16) throw new RangeError('torch draws blocks of 16 here: ask for a multiple of 16');
    const out = Float32Array.from({ length: count }, uniform);
    for (let block = 0; block < count; block += 16) {
      for (let i = block; i < block + 8; i++) {
        const radius = Math.sqrt(-2 * Math.log(1 - out[i]));
        const angle = 2 * Math.PI * out[i + 8];
        [out[i], out[i + 8]] = [radius * Math.cos(angle), radius * Math.sin(angle)];
      }
    }
    return out;
  };
}
