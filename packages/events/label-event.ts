/** The entries of `label_live`: one label as its labeler signed it (com.atproto.label.defs#label). */

export interface LabelStreamEvent {
  type: 'label'
  label: Label
  /** The labeler's sequence number of the frame that carried it. */
  seq?: number
}

export interface Label {
  ver?: number
  src: string
  /** AT URI or DID that is labelled. */
  uri: string
  cid?: string
  val: string
  /** True: this negates an earlier label of the same src, uri, cid and val. */
  neg?: boolean
  /** When the labeler made it (ISO 8601). */
  cts: string
  /** When it ends (ISO 8601). */
  exp?: string
  sig?: { $bytes: string }
}
