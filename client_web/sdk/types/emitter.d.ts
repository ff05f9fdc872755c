/**
 * Events by name: the base class of `Session`, `PromptHandle` and `Player`. If a listener throws, the page's error
 * handler gets the error, and the other listeners still run.
 */
/** Names the emitting method. It is a symbol, so that the method is not part of the public API. */
export declare const emit: unique symbol;
/** @template {Record<string, any[]>} [Events=Record<string, any[]>] */
export declare class Emitter<Events extends Record<string, any[]> = Record<string, any[]>> {
    #private;
    /** @param {Record<string, any>} [listeners] by event name; `onState` is the same as `state` */
    constructor(listeners?: Record<string, any>);
    /**
     * Adds a listener.
     *
     * @template {keyof Events & string} Type
     * @param {Type} type
     * @param {(...details: Events[Type]) => void} listener
     * @returns {() => void} removes the listener
     */
    on<Type extends keyof Events & string>(type: Type, listener: (...details: Events[Type]) => void): () => void;
}
