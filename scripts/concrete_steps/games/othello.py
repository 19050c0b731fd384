"""Othello on a 6x6 board: rules for many boards at once, and uniformly random legal games as tokens.

A board is a vector of 36 squares, row by row from the top left: +1 black, -1 white, 0 empty. Black moves first. A move
puts a disc on an empty square so that, in at least one of eight directions, a row of the opponent's discs lies between
it and another disc of the mover; those rows are turned over. Who has no such square must pass; when neither has one,
the game is over.

Tokens: 0..35 are the squares, 36 is PASS, 37 is START, which opens every game. Passes are written out, so black moves
at every even ply and white at every odd one. (Othello-GPT leaves them out.)
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

SIZE = 6
N_SQUARES = SIZE * SIZE
PASS = N_SQUARES
START = N_SQUARES + 1
N_TOKENS = N_SQUARES + 2
PLIES = N_SQUARES - 4  # a game without passes fills the board in 32 moves; a game with passes is cut there
DIRECTIONS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


@dataclass
class Games:
    """Random games and all that is true of them before each ply."""

    moves: Int[Tensor, "game ply"]  # the token played; PASS after the end of the game
    legal: Bool[Tensor, "game ply token"]  # over the 37 tokens that can be played (squares and PASS)
    boards: Int[Tensor, "game ply square"]  # +1 black, -1 white, 0 empty
    over: Bool[Tensor, "game ply"]  # neither player can move: the game ended before this ply

    @property
    def inputs(self) -> Int[Tensor, "game ply"]:
        """What a model reads to predict `moves`: START, then every move but the last."""
        return torch.cat([torch.full_like(self.moves[:, :1], START), self.moves[:, :-1]], dim=1)


@cache
def rays() -> Int[Tensor, "square direction step"]:
    """The squares met by walking from a square in a direction, nearest first; 36 stands for outside the board."""
    table = torch.full((N_SQUARES, len(DIRECTIONS), SIZE - 1), N_SQUARES)
    for square in range(N_SQUARES):
        for direction, (down, right) in enumerate(DIRECTIONS):
            row, column = square // SIZE + down, square % SIZE + right
            step = 0
            while 0 <= row < SIZE and 0 <= column < SIZE:
                table[square, direction, step] = row * SIZE + column
                row, column, step = row + down, column + right, step + 1
    return table


def start_boards(n_games: int) -> Int[Tensor, "game square"]:
    """The opening position: white on the main diagonal's two middle squares, black on the other two."""
    board = torch.zeros(SIZE, SIZE, dtype=torch.int8)
    board[2, 2] = board[3, 3] = -1
    board[2, 3] = board[3, 2] = 1
    return board.flatten().repeat(n_games, 1)


def turned_over(line: Int[Tensor, "*rays step"]) -> Bool[Tensor, "*rays step"]:
    """Which discs along rays a move at their origin turns over; +1 stands for the mover's disc, -1 the opponent's."""
    row = (line == -1).cumprod(-1, dtype=torch.int8).bool()  # the unbroken row of opponent's discs next to the origin
    end = row.sum(-1, keepdim=True).clamp(max=SIZE - 2)
    return row & (line.gather(-1, end) == 1)  # a row that reaches the ray's last step has nothing behind it


def with_outside(board: Int[Tensor, "game square"]) -> Int[Tensor, "game square_or_outside"]:
    """The boards with a 37th, always empty square, to which the rays point outside the board."""
    return torch.nn.functional.pad(board, (0, 1))


def legal_squares(board: Int[Tensor, "game square"], player: int) -> Bool[Tensor, "game square"]:
    """The squares on which `player` (+1 or -1) may put a disc."""
    turned = turned_over(with_outside(board * player)[:, rays()])
    return (board == 0) & turned[..., 0].any(-1)


def play(board: Int[Tensor, "game square"], player: int, move: Int[Tensor, " game"]) -> Int[Tensor, "game square"]:
    """The boards after each game's move, which is a legal square or PASS."""
    square = move.clamp(max=N_SQUARES - 1)
    along = rays()[square].flatten(1)  # game, 8 directions x 5 steps
    line = with_outside(board * player).gather(1, along)
    turned = turned_over(line.unflatten(1, (len(DIRECTIONS), SIZE - 1))).flatten(1)
    after = with_outside(board).scatter(1, torch.where(turned, along, N_SQUARES), player)[:, :N_SQUARES]
    after.scatter_(1, square[:, None], player)
    return torch.where((move == PASS)[:, None], board, after)


def random_games(n_games: int, generator: torch.Generator, plies: int = PLIES) -> Games:
    """Games in which every move is drawn uniformly from the legal ones.

    Args:
        n_games: how many.
        generator: a CPU generator; the same state gives the same games.
        plies: length of each; a game that is over goes on with PASS.
    """
    board, player = start_boards(n_games), 1
    moves, legals, boards, overs = [], [], [], []
    legal = legal_squares(board, player)
    for _ in range(plies):
        stuck = ~legal.any(-1, keepdim=True)
        choices = torch.cat([legal, stuck], dim=1)
        move = torch.rand(choices.shape, generator=generator).masked_fill(~choices, -1.0).argmax(-1)
        after = play(board, player, move)
        legal_next = legal_squares(after, -player)
        over = stuck[:, 0] & ~legal_next.any(-1)  # a pass leaves the board as it was
        for record, value in [(moves, move), (legals, choices), (boards, board), (overs, over)]:
            record.append(value)
        board, player, legal = after, -player, legal_next
    return Games(*(torch.stack(record, dim=1) for record in (moves, legals, boards, overs)))
