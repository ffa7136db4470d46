"""A sequence in MOTChallenge's layout, and what a tracker made of it."""

from pathlib import Path

LENGTH = 6


def write_tracked(root: Path) -> None:
    """`MOT17/train/MOT17-02` and `-04` with truth, and `results/` of both."""
    for name in ("MOT17-02", "MOT17-04"):
        folder = root / "MOT17" / "train" / name
        for part in ("gt", "det"):
            (folder / part).mkdir(parents=True)
        truth = [f"{t},1,{10 + 2 * t},10,10,20,1,1,1" for t in range(1, LENGTH + 1)]
        truth += [f"{t},2,{60 - 2 * t},12,10,20,1,1,1" for t in range(1, LENGTH)]
        truth += [f"{t},7,300,100,10,20,0,8,1" for t in range(1, LENGTH + 1)]
        (folder / "gt" / "gt.txt").write_text("\n".join(truth) + "\n")
        boxes = [",".join(line.split(",")[2:6]) for line in truth]
        frames = [line.split(",")[0] for line in truth]
        found = [f"{t},-1,{row},0.9" for t, row in zip(frames, boxes, strict=True)]
        (folder / "det" / "det.txt").write_text("\n".join(found) + "\n")
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nname={name}\nimDir=img1\nframeRate=30\nseqLength={LENGTH}\n"
            "imWidth=640\nimHeight=480\nimExt=.jpg\n"
        )
        (root / "results").mkdir(exist_ok=True)
        places = [
            *("1,1,12,10", "1,2,58,12", "2,1,14,10", "2,2,57,12", "3,1,16,11", "4,1,18,10"),
            *("4,3,52,12", "5,1,20,10", "5,3,50,12", "5,4,200,100", "6,3,22,10"),
            *("2,9,300,100", "3,9,300,100"),
        ]
        lines = [f"{place},10,20,1,-1,-1,-1" for place in places]
        (root / "results" / f"{name}.txt").write_text("\n".join(lines) + "\n")
