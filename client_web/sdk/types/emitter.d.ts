/**
 * Events by name. A listener's mistake is reported to the page and costs the others nothing.
 */
/** How an emitter's owner speaks: a symbol is no part of the public surface. */
export declare const emit: unique symbol;
/** @template {Record<string, any[]>} [Events=Record<string, any[]>] */
export declare class Emitter<Events extends Record<string, any[]> = Record<string, any[]>> {
    #private;
    /** @param {Record<string, any>} [listeners] by event; `onState` is one for `state` */
    constructor(listeners?: Record<string, any>);
    /**
     * @template {keyof Events & string} Type
     * @param {Type} type
     * @param {(...details: Events[Type]) => void} listener
     * @returns {() => void} ends it
     */
    on<Type extends keyof Events & string>(type: Type, listener: (...details: Events[Type]) => void): () => void;
}
