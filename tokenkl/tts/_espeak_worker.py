"""Speaks a list of requests with libespeak-ng, as a script in a process of its own.

A process of its own, because the library keeps the state of its noise and flutter generators from
one utterance to the next, and nothing resets it: in a fresh process the same list of requests gives
the same samples. It imports nothing of tokenkl, so it starts in a fraction of a second.

Usage: python _espeak_worker.py REQUESTS.json RESULT.npz
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import numpy as np

# Numbers from espeak-ng's public header speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
PHONEME_EVENTS, DONT_EXIT = 0x0001, 0x8000
RATE, PITCH = 1, 3
CHARS_UTF8 = 1
POSITION_CHARACTER = 1
EVENT_END_OF_LIST, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
#: Room for the name of a phoneme. espeak-ng's own ASCII names fit; some in IPA would not.
NAME_BYTES = 8


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * NAME_BYTES),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Speaker:
    """libespeak-ng in synchronous mode; one for a process."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        options = PHONEME_EVENTS | DONT_EXIT
        self.rate = self._library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, options)
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng did not start (code {self.rate})")
        self._samples: list[np.ndarray] = []
        self._events: list[tuple[int, int, int, bytes]] = []
        self._callback = _Callback(self._receive)  # kept alive as long as the library may call it
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if count > 0 and samples:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != EVENT_END_OF_LIST:
            event = events[index]
            if event.type in (EVENT_WORD, EVENT_PHONEME):
                name = event.id.string if event.type == EVENT_PHONEME else b""
                self._events.append((event.type, event.text_position, event.sample, name))
            index += 1
        return 0

    def say(self, text: str, voice: str, rate: int, pitch: int) -> dict[str, Any]:
        """Samples, and for each phoneme its name, first sample and position in the text."""
        self._samples.clear()
        self._events.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"voice must be one that espeak-ng has; got {voice}.")
        self._library.espeak_SetParameter(RATE, rate, 0)
        self._library.espeak_SetParameter(PITCH, pitch, 0)
        data = text.encode()
        code = self._library.espeak_Synth(
            data, len(data) + 1, 0, POSITION_CHARACTER, 0, CHARS_UTF8, None, None
        )
        if code != 0:
            raise RuntimeError(f"espeak-ng could not say {text!r} (code {code})")
        self._library.espeak_Synchronize()
        phonemes = [event for event in self._events if event[0] == EVENT_PHONEME]
        for *_, name in phonemes:
            if len(name) >= NAME_BYTES:
                raise RuntimeError(f"a phoneme name of {text!r} may have been cut short: {name!r}")
        return {
            "samples": np.concatenate(self._samples) if self._samples else np.zeros(0, np.int16),
            "names": [name.decode() for *_, name in phonemes],
            "starts": [sample for _, _, sample, _ in phonemes],
            "positions": [position for _, position, _, _ in phonemes],
        }


def main(requests_path: str, result_path: str) -> None:
    with open(requests_path, encoding="utf-8") as file:
        requests = json.load(file)
    speaker = Speaker()
    arrays: dict[str, Any] = {"rate": np.array(speaker.rate)}
    for index, request in enumerate(requests):
        spoken = speaker.say(**request)
        arrays[f"{index}.samples"] = spoken["samples"]
        arrays[f"{index}.names"] = np.array(spoken["names"], dtype=np.str_)
        arrays[f"{index}.starts"] = np.array(spoken["starts"], np.int64)
        arrays[f"{index}.positions"] = np.array(spoken["positions"], np.int64)
    with open(result_path, "wb") as file:
        np.savez(file, **arrays)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ValueError, RuntimeError, ImportError) as error:
        sys.exit(str(error))
