"""The look of one's own: a name, a logo and two colours, on every page of the board.

Enters: `settings.brand` of the truth, and the logo, a file in the folder BOARD_BRAND_FOLDER.
Leaves: what the templates show (`Brand`), and the logo and a stylesheet below `/static/brand/`.
Never: a file outside that folder, whatever the truth names; a script in a logo.
"""
