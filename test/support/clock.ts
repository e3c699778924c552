/** A clock in milliseconds that the processes of one machine share, finer than `Date.now`. */
export const clock = (): number => performance.timeOrigin + performance.now()
